// One hop of plain Node pipes: no TLS, no multiplexing, no decision.
import { connect, createServer } from 'node:net';

const next = Number(process.argv[2]);

const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
  const far = connect({ port: next, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  near.on('error', () => far.destroy());
  far.on('error', () => near.destroy());
  near.pipe(far);
  far.pipe(near);
});
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  const address = server.address();
  if (typeof address === 'object' && address !== null) process.send?.({ port: address.port });
});
process.on('disconnect', () => process.exit(0));
