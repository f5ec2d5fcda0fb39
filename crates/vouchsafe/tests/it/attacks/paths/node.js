// Answers with the path as nearly every Node program reads it: parsed as a URL, then decoded.
const http = require('http');
const [host, port] = process.argv[2].split(':');
http.createServer((request, response) => {
    let path;
    try {
        path = decodeURIComponent(new URL(request.url, 'http://base').pathname);
    } catch (error) {
        path = `error: ${error}`;
    }
    response.end(path);
}).listen(Number(port), host);
