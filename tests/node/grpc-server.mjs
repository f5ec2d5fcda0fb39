// A gRPC server. Usage: node grpc-server.mjs PORT [CERTIFICATE KEY]. Messages are raw bytes. Prints
// one line of JSON for what it was told and what became of calls.
import { readFileSync } from 'node:fs';
import * as grpc from '@grpc/grpc-js';

const [port, certificate, key] = process.argv.slice(2);
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const raw = { requestSerialize: (x) => x, requestDeserialize: (x) => x, responseSerialize: (x) => x, responseDeserialize: (x) => x };
const method = (name, requestStream, responseStream) => ({ path: `/test.Echo/${name}`, requestStream, responseStream, ...raw });
const service = {
  Unary: method('Unary', false, false),
  Sum: method('Sum', true, false),
  Count: method('Count', false, true),
  Talk: method('Talk', true, true),
  Refuse: method('Refuse', false, false),
  Hang: method('Hang', false, true),
};
const trailers = () => {
  const metadata = new grpc.Metadata();
  metadata.set('x-checksum', 'right');
  metadata.set('x-vouchsafe-user', 'evil');
  return metadata;
};

const server = new grpc.Server();
server.addService(service, {
  Unary: (call, answer) => {
    say({ event: 'unary', metadata: call.metadata.getMap() });
    answer(null, call.request, trailers());
  },
  Sum: (call, answer) => {
    let sum = 0;
    call.on('data', (message) => { sum += message.length; });
    call.on('end', () => answer(null, Buffer.from(String(sum)), trailers()));
  },
  Count: (call) => {
    for (let number = 0; number < Number(call.request); number++) call.write(Buffer.from(String(number)));
    call.end(trailers());
  },
  Talk: (call) => {
    call.on('data', (message) => call.write(message));
    call.on('end', () => call.end(trailers()));
  },
  Refuse: (_, answer) => answer({ code: grpc.status.NOT_FOUND, details: 'no such thing' }),
  Hang: (call) => {
    call.write(Buffer.from('begun'));
    call.on('cancelled', () => say({ event: 'cancelled' }));
  },
});
const credentials = certificate
  ? grpc.ServerCredentials.createSsl(null, [{ cert_chain: readFileSync(certificate), private_key: readFileSync(key) }])
  : grpc.ServerCredentials.createInsecure();
server.bindAsync(`127.0.0.1:${port}`, credentials, (error) => { if (error) throw error; });
