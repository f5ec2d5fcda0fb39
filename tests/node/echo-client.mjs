// A WebSocket client. Usage: node echo-client.mjs MODE, with JSON in VOUCHSAFE_TEST:
// {address, port, host, root, headers}. Prints one line of JSON for each thing that happens.
//
// echo   sends 1,000 messages and compares what comes back
// closed asks the server to close with 4001
// close  closes with 4002
// hold   stays open until it is cut
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { WebSocket } from 'ws';

const { port, host, root, headers } = JSON.parse(process.env.VOUCHSAFE_TEST);
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const mode = process.argv[2];
const socket = new WebSocket(`wss://127.0.0.1:${port}/socket?mode=${mode}`, {
  servername: host,
  ca: readFileSync(root),
  headers: { Host: `${host}:${port}`, ...headers },
  maxPayload: 4 << 20,
});

// Every hundredth message has 1 MiB, the others up to 4 KiB; every other one is text.
const MESSAGES = 1000;
const message = (number) => {
  const size = number % 100 === 99 ? 1 << 20 : (number * 37) % 4096;
  const bytes = Buffer.alloc(size, createHash('sha256').update(String(number)).digest('hex'));
  return number % 2 ? { data: bytes, binary: true } : { data: bytes.toString(), binary: false };
};

let received = 0;
socket.on('open', () => {
  say({ event: 'open' });
  if (mode === 'echo') for (let number = 0; number < MESSAGES; number++) socket.send(message(number).data);
  if (mode === 'closed') socket.send('close 4001 asked for');
  if (mode === 'close') socket.close(4002, 'had enough');
});
socket.on('message', (data, isBinary) => {
  const expected = message(received);
  if (isBinary !== expected.binary || !data.equals(Buffer.from(expected.data))) {
    say({ event: 'wrong', number: received });
    process.exit(1);
  }
  received += 1;
  if (received === MESSAGES) socket.close(1000, 'done');
});
socket.on('unexpected-response', (_, response) => {
  say({ event: 'refused', status: response.statusCode, decision: response.headers['x-vouchsafe-decision'] });
  process.exit(0);
});
socket.on('error', (error) => say({ event: 'error', message: error.message }));
socket.on('close', (code, reason) => {
  say({ event: 'close', code, reason: reason.toString(), received });
  process.exit(0);
});
