// A gRPC client. Usage: node grpc-client.mjs, with JSON in VOUCHSAFE_TEST: {port, host, root, cookie}.
// Makes one call of each kind and prints one line of JSON for each, then one call that stays open
// until it is ended from outside.
import { readFileSync } from 'node:fs';
import * as grpc from '@grpc/grpc-js';

const { port, host, root, cookie } = JSON.parse(process.env.VOUCHSAFE_TEST);
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createSsl(readFileSync(root)), {
  'grpc.ssl_target_name_override': host,
  'grpc.default_authority': `${host}:${port}`,
});
const same = (x) => x;
const credentials = () => {
  const metadata = new grpc.Metadata();
  if (cookie) metadata.set('cookie', cookie);
  metadata.set('x-own-bin', Buffer.from([0, 1, 2]));
  return metadata;
};
const path = (name) => `/test.Echo/${name}`;
const trailersOf = (call) => new Promise((resolve) => call.on('status', (status) => resolve(status)));
const told = (status) => ({ code: status.code, details: status.details, trailers: status.metadata.getMap() });

const unary = (name, message, options = {}) => new Promise((resolve) => {
  let value;
  const call = client.makeUnaryRequest(path(name), same, same, message, credentials(), options, (_, answer) => { value = answer; });
  trailersOf(call).then((status) => setImmediate(() => resolve({ ...told(status), value: value?.toString() })));
});

say({ call: 'unary', ...await unary('Unary', Buffer.from('hello')) });
say({ call: 'trailers only', ...await unary('Refuse', Buffer.from('x')) });
if (!cookie) process.exit(0);

{
  let value;
  const call = client.makeClientStreamRequest(path('Sum'), same, same, credentials(), (_, answer) => { value = answer; });
  for (let number = 0; number < 50; number++) call.write(Buffer.alloc(20_000, 1));
  call.end();
  const status = await trailersOf(call);
  await new Promise((resolve) => setImmediate(resolve));
  say({ call: 'client stream', ...told(status), value: value?.toString() });
}
{
  const call = client.makeServerStreamRequest(path('Count'), same, same, Buffer.from('1000'), credentials());
  const numbers = [];
  call.on('data', (message) => numbers.push(Number(message)));
  call.on('error', () => {});
  const status = await trailersOf(call);
  say({ call: 'server stream', ...told(status), ordered: numbers.every((number, index) => number === index), count: numbers.length });
}
{
  // Each message is sent only when the one before has come back: both directions are open at once.
  const call = client.makeBidiStreamRequest(path('Talk'), same, same, credentials());
  let rounds = 0;
  call.on('error', () => {});
  call.on('data', (message) => {
    if (message.toString() !== `round ${rounds}`) throw new Error(`got ${message}`);
    rounds += 1;
    if (rounds < 100) call.write(Buffer.from(`round ${rounds}`));
    else call.end();
  });
  call.write(Buffer.from('round 0'));
  const status = await trailersOf(call);
  say({ call: 'both ways', ...told(status), rounds });
}
{
  const call = client.makeServerStreamRequest(path('Hang'), same, same, Buffer.from('x'), credentials(), { deadline: Date.now() + 1500 });
  call.on('data', () => {});
  call.on('error', () => {});
  say({ call: 'deadline', ...told(await trailersOf(call)) });
}
{
  const call = client.makeServerStreamRequest(path('Hang'), same, same, Buffer.from('x'), credentials());
  call.on('data', () => call.cancel());
  call.on('error', () => {});
  say({ call: 'cancel', ...told(await trailersOf(call)) });
}
{
  const call = client.makeServerStreamRequest(path('Hang'), same, same, Buffer.from('x'), credentials());
  call.on('data', () => say({ call: 'held' }));
  call.on('error', () => {});
  say({ call: 'ended', ...told(await trailersOf(call)) });
}
process.exit(0);
