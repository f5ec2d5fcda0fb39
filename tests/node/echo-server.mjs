// A WebSocket server: sends back what it gets, closes with the code it is asked for, and prints one
// line of JSON for each connection and each close. Usage: node echo-server.mjs PORT
import { WebSocketServer } from 'ws';

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]), maxPayload: 4 << 20 });

server.on('connection', (socket, request) => {
  say({ event: 'open', headers: request.headers });
  socket.on('message', (data, isBinary) => {
    const close = isBinary ? null : /^close (\d+) (.*)$/.exec(data.toString());
    if (close) socket.close(Number(close[1]), close[2]);
    else socket.send(data, { binary: isBinary });
  });
  socket.on('close', (code, reason) => say({ event: 'close', code, reason: reason.toString() }));
});
