// The messages of `ws` on a stream of HTTP/2: RFC 8441 changes the handshake and nothing behind it.
import { WebSocket } from 'ws';

export const onStream = (stream, { isServer }) => {
  const socket = new WebSocket(null, undefined, { autoPong: true });
  socket._isServer = isServer;
  socket.setSocket(stream, Buffer.alloc(0), { allowSynchronousEvents: true, maxPayload: 4 << 20, skipUTF8Validation: false });
  return socket;
};
