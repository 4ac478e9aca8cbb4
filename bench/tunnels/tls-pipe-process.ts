// One end of TLS pipes: `near` puts each connection into TLS, `far` takes it out. No multiplexing, no decision.
//   tls-pipe-process.ts near|far PORT
import { connect, createServer, type Server, type Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { createLinkCertificate, systemClock } from '../../src/runtime/index.ts';

const [end, portText] = process.argv.slice(2);
const to = { port: Number(portText), host: '127.0.0.1', allowHalfOpen: true, noDelay: true };

const join = (near: Socket, far: Socket): void => {
  near.on('error', () => far.destroy());
  far.on('error', () => near.destroy());
  near.pipe(far);
  far.pipe(near);
};

const openServer = async (): Promise<Server> => {
  if (end === 'near') {
    return createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      // The certificate is made for this run; who the other end is is not what is measured.
      join(socket, connectTls({ socket: connect(to), minVersion: 'TLSv1.3', rejectUnauthorized: false }));
    });
  }
  const { keyPem, certPem } = await createLinkCertificate('bench', systemClock);
  const options = {
    key: keyPem,
    cert: certPem,
    minVersion: 'TLSv1.3',
    // What the product prefers.
    ciphers: 'TLS_AES_128_GCM_SHA256',
    noDelay: true,
    allowHalfOpen: true,
  } as const;
  return createTlsServer(options, (socket) => join(socket, connect(to)));
};

const server = await openServer();
server.on('tlsClientError', () => undefined);
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  const address = server.address();
  if (typeof address === 'object' && address !== null) process.send?.({ port: address.port });
});
process.on('disconnect', () => process.exit(0));
