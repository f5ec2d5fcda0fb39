// A WebSocket server: sends back what it gets, closes with the code it is asked for, and prints one
// line of JSON for each connection and each close. Usage: node echo-server.mjs PORT [h2]
//
// h2: WebSockets on streams of HTTP/2 by prior knowledge (RFC 8441)
import http from 'node:http';
import http2 from 'node:http2';
import { WebSocketServer } from 'ws';
import { onStream } from './websocket-stream.mjs';

const [port, protocol] = process.argv.slice(2);
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');

const serve = (socket, headers) => {
  say({ event: 'open', headers });
  socket.on('message', (data, isBinary) => {
    const close = isBinary ? null : /^close (\d+) (.*)$/.exec(data.toString());
    if (close) socket.close(Number(close[1]), close[2]);
    else socket.send(data, { binary: isBinary });
  });
  socket.on('close', (code, reason) => say({ event: 'close', code, reason: reason.toString() }));
};

if (protocol === 'h2') {
  const server = http2.createServer({ settings: { enableConnectProtocol: true } });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    if (headers[':method'] !== 'CONNECT') return stream.respond({ ':status': 200 }, { endStream: true });
    stream.respond({ ':status': 200, 'sec-websocket-protocol': headers['sec-websocket-protocol'] });
    serve(onStream(stream, { isServer: true }), headers);
  });
  server.listen(Number(port), '127.0.0.1');
} else {
  const server = http.createServer((_, response) => response.end('a page'));
  const sockets = new WebSocketServer({ noServer: true, maxPayload: 4 << 20 });
  sockets.on('connection', (socket, request) => serve(socket, request.headers));
  server.on('upgrade', (request, socket, head) => {
    // A page where a WebSocket was asked for.
    if (request.url.startsWith('/page')) return socket.end('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npage');
    sockets.handleUpgrade(request, socket, head, (opened) => sockets.emit('connection', opened, request));
  });
  server.listen(Number(port), '127.0.0.1');
}
