// One hop of pipes. `plain`: as it comes; `near` puts each connection into TLS, `far` takes it out. No multiplexing, no
// decision.
//   pipe-process.ts plain|near|far PORT
import { connect, createServer, type Server, type Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';

const [kind, port] = process.argv.slice(2);

const dial = (): Socket => {
  const socket = connect({ port: Number(port), host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  // The certificate is made for this run; who the other end is is not what is measured.
  return kind === 'near' ? connectTls({ socket, minVersion: 'TLSv1.3', rejectUnauthorized: false }) : socket;
};

const join = (near: Socket): void => {
  const far = dial();
  near.on('error', () => far.destroy());
  far.on('error', () => near.destroy());
  near.pipe(far);
  far.pipe(near);
};

const createHop = async (): Promise<Server> => {
  const options = { allowHalfOpen: true, noDelay: true };
  if (kind !== 'far') return createServer(options, join);
  // Loaded only here: the plain hops are to be as small as they can be.
  const { createLinkCertificate, systemClock } = await import('../../src/runtime/index.ts');
  const { keyPem, certPem } = await createLinkCertificate('bench', systemClock);
  // The cipher that the product prefers.
  const tls = {
    key: keyPem,
    cert: certPem,
    minVersion: 'TLSv1.3',
    ciphers: 'TLS_AES_128_GCM_SHA256',
  } as const;
  return createTlsServer({ ...options, ...tls }, join);
};

const server = await createHop();
server.on('tlsClientError', () => undefined);
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  const address = server.address();
  if (typeof address === 'object' && address !== null) process.send?.({ port: address.port });
});
process.on('disconnect', () => process.exit(0));
