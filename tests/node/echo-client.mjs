// A WebSocket client. Usage: node echo-client.mjs MODE, with JSON in VOUCHSAFE_TEST:
// {port, host, root, headers}. Prints one line of JSON for each thing that happens.
//
// echo       sends 1,000 messages and compares what comes back
// closed     asks the server to close with 4001
// close      closes with 4002
// hold       stays open until it is cut
// h2:MODE    the same on a stream of HTTP/2 (RFC 8441); and these, which have to be refused:
// h2:connect-ip   another protocol
// h2:own-path     a path of the gateway's own
// h2:page         a path where the app answers with a page
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { WebSocket } from 'ws';
import { onStream } from './websocket-stream.mjs';

const { port, host, root, headers } = JSON.parse(process.env.VOUCHSAFE_TEST);
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const [, isH2, mode] = /^(h2:)?(.*)$/.exec(process.argv[2]);

// Every hundredth message has 1 MiB, the others up to 4 KiB; every other one is text.
const MESSAGES = 1000;
const message = (number) => {
  const size = number % 100 === 99 ? 1 << 20 : (number * 37) % 4096;
  const bytes = Buffer.alloc(size, createHash('sha256').update(String(number)).digest('hex'));
  return number % 2 ? { data: bytes, binary: true } : { data: bytes.toString(), binary: false };
};

const opened = (socket, protocol) => {
  say({ event: 'open', protocol });
  if (mode === 'echo') for (let number = 0; number < MESSAGES; number++) socket.send(message(number).data);
  if (mode === 'closed') socket.send('close 4001 asked for');
  if (mode === 'close') socket.close(4002, 'had enough');
};

const follow = (socket) => {
  let received = 0;
  socket.on('message', (data, isBinary) => {
    const expected = message(received);
    if (isBinary !== expected.binary || !data.equals(Buffer.from(expected.data))) {
      say({ event: 'wrong', number: received });
      process.exit(1);
    }
    received += 1;
    if (received === MESSAGES) socket.close(1000, 'done');
  });
  socket.on('error', (error) => say({ event: 'error', message: error.message }));
  socket.on('close', (code, reason) => {
    say({ event: 'close', code, reason: reason.toString(), received });
    process.exit(0);
  });
};

const refused = (status, decision) => {
  say({ event: 'refused', status, decision });
  process.exit(0);
};

if (isH2) {
  const session = http2.connect(`https://127.0.0.1:${port}`, { servername: host, ca: readFileSync(root) });
  session.on('error', (error) => say({ event: 'error', message: error.message }));
  session.on('remoteSettings', (settings) => {
    if (!settings.enableConnectProtocol) throw new Error('no WebSockets on streams are offered');
    const path = { 'own-path': '/.vouchsafe/callback', page: '/page' }[mode] ?? `/socket?mode=${mode}`;
    const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
    const stream = session.request({
      ':method': 'CONNECT',
      ':protocol': mode === 'connect-ip' ? 'connect-ip' : 'websocket',
      ':scheme': 'https',
      ':authority': `${host}:${port}`,
      ':path': path,
      'sec-websocket-version': '13',
      'sec-websocket-protocol': 'echo',
      ...lower,
    });
    stream.on('error', (error) => say({ event: 'error', message: error.message }));
    stream.on('response', (fields) => {
      if (fields[':status'] !== 200) return refused(fields[':status'], fields['x-vouchsafe-decision']);
      const socket = onStream(stream, { isServer: false });
      follow(socket);
      opened(socket, fields['sec-websocket-protocol']);
    });
  });
} else {
  const socket = new WebSocket(`wss://127.0.0.1:${port}/socket?mode=${mode}`, 'echo', {
    servername: host,
    ca: readFileSync(root),
    headers: { Host: `${host}:${port}`, ...headers },
    maxPayload: 4 << 20,
  });
  follow(socket);
  socket.on('open', () => opened(socket, socket.protocol));
  socket.on('unexpected-response', (_, response) => refused(response.statusCode, response.headers['x-vouchsafe-decision']));
}
