//go:build tools

// Pins h2spec, which judges HTTP/2 servers, for `./test`.
package tests

import _ "github.com/summerwind/h2spec/cmd/h2spec"
