// A verifier of vouchsafe's audit log that shares no code with it: signed notes, trees and tiles are those of the Go
// project's checksum database.
//
//	tlog log VKEY SOCKET [WITNESS…]     fetches checkpoint, entries and tiles over the admin socket, and verifies all
//	tlog proof VKEY FILE [WITNESS…]     verifies the proof of one record, and prints the record
//
// Each witness whose key is given must have cosigned.
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// witness verifies cosignatures, which the library doesn't know: C2SP tlog-cosignature, version 1.
type witness struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

func (w *witness) Name() string    { return w.name }
func (w *witness) KeyHash() uint32 { return w.id }

func (w *witness) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
	return ed25519.Verify(w.key, []byte(signed), signature[8:])
}

func witnessOf(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("no verifier key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		return nil, errors.New("no key of a witness")
	}
	hash := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	id := binary.BigEndian.Uint32(hash[:])
	if fmt.Sprintf("%08x", id) != parts[1] {
		return nil, errors.New("the id is not of this key")
	}
	return &witness{parts[0], id, key[1:]}, nil
}

// opened gives the tree of a checkpoint that the log and every witness have signed.
func opened(text []byte, vkey string, witnesses []string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	verifiers := []note.Verifier{verifier}
	for _, one := range witnesses {
		other, err := witnessOf(one)
		if err != nil {
			return tlog.Tree{}, err
		}
		verifiers = append(verifiers, other)
	}
	signed, err := note.Open(text, note.VerifierList(verifiers...))
	if err != nil {
		return tlog.Tree{}, err
	}
	if len(signed.Sigs) != len(verifiers) {
		return tlog.Tree{}, fmt.Errorf("%d of %d keys have signed", len(signed.Sigs), len(verifiers))
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("a checkpoint of another log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tlog.Tree{}, errors.New("the root is no hash")
	}
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], root)
	return tree, nil
}

// log is asked over the admin socket.
type log struct{ client *http.Client }

func (l log) get(path string) ([]byte, error) {
	answer, err := l.client.Get("http://localhost/v1/audit/log/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, answer.Status)
	}
	return body, err
}

func (l log) Height() int                     { return 8 }
func (l log) SaveTiles([]tlog.Tile, [][]byte) {}
func (l log) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		// C2SP's names leave out the height, which is always 8.
		body, err := l.get(strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if err != nil {
			return nil, err
		}
		all = append(all, body)
	}
	return all, nil
}

func wholeLog(vkey, socket string, witnesses []string) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	l := log{&http.Client{Transport: &http.Transport{DialContext: dial}}}
	which := "checkpoint"
	if len(witnesses) > 0 {
		which = "cosigned"
	}
	text, err := l.get(which)
	if err != nil {
		return err
	}
	tree, err := opened(text, vkey, witnesses)
	if err != nil {
		return err
	}
	// What it reads of tiles it holds against the root.
	hashes := tlog.TileHashReader(tree, l)
	for first := int64(0); first < tree.N; first += 256 {
		width := 256
		if left := tree.N - first; left < 256 {
			width = int(left)
		}
		name := tlog.Tile{H: 8, L: 0, N: first / 256, W: width}.Path()
		bundle, err := l.get(strings.Replace(name, "tile/8/0/", "tile/entries/", 1))
		if err != nil {
			return err
		}
		for at := first; at < first+int64(width); at++ {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return errors.New("a bundle is cut short")
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			known, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, at)})
			if err != nil {
				return err
			}
			if known[0] != tlog.RecordHash(bundle[2:end]) {
				return fmt.Errorf("record %d is not what was signed", at)
			}
			bundle = bundle[end:]
		}
		if len(bundle) > 0 {
			return errors.New("a bundle has more than it should")
		}
	}
	// That it grew out of what it was at half the size, and holds its last record.
	half := tree.N / 2
	before, err := tlog.TreeHash(half, hashes)
	if err != nil {
		return err
	}
	grown, err := tlog.ProveTree(tree.N, half, hashes)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(grown, tree.N, tree.Hash, half, before); err != nil {
		return err
	}
	fmt.Println(tree.N)
	return nil
}

func proof(vkey, path string, witnesses []string) error {
	file, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, text, found := bytes.Cut(file, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("no proof file")
	}
	if !strings.HasPrefix(lines[1], "extra ") || !strings.HasPrefix(lines[2], "index ") {
		return errors.New("no record, or no index")
	}
	extra, index := strings.TrimPrefix(lines[1], "extra "), strings.TrimPrefix(lines[2], "index ")
	record, err := base64.StdEncoding.DecodeString(extra)
	if err != nil {
		return err
	}
	at, err := strconv.ParseInt(index, 10, 64)
	if err != nil {
		return err
	}
	var way tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		way = append(way, hash)
	}
	tree, err := opened(text, vkey, witnesses)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(way, tree.N, tree.Hash, at, tlog.RecordHash(record)); err != nil {
		return err
	}
	fmt.Println(string(record))
	return nil
}

func main() {
	verbs := map[string]func(string, string, []string) error{"log": wholeLog, "proof": proof}
	if len(os.Args) < 4 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: tlog log|proof VKEY SOCKET|FILE [WITNESS…]")
		os.Exit(2)
	}
	if err := verbs[os.Args[1]](os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
