import { join } from 'node:path';
import { PYTHON } from '../../support/python.ts';
import { startBackground } from '../../support/background.ts';
import { projectRoot } from '../../support/command.ts';
import type { PrivateNetwork } from '../../support/private-network.ts';
import type { Closer } from '../../support/temporary.ts';
import type { DriverCase, PublishedTarget } from '../family.ts';
import { API_HOST } from './api.ts';

const GRPC: PublishedTarget = { host: API_HOST, port: 50_051 };
const script = (name: string): string => join(projectRoot, 'test/drivers/protocols', name);

export const startGrpc = async (
  t: Closer,
  network: PrivateNetwork,
  { certFile, keyFile }: { readonly certFile: string; readonly keyFile: string },
): Promise<{ targets: Record<string, PublishedTarget>; cases: DriverCase[] }> => {
  const address = `${network.addressOf(GRPC.host)}:${GRPC.port}`;
  const server = startBackground(t, PYTHON, [script('grpc-server.py'), address, certFile, keyFile]);
  await server.said(/^serving$/m);
  return {
    targets: { grpc: GRPC },
    cases: [
      {
        name: 'Python grpcio, grpcio, TLS with the certificate verified',
        connection: 'grpc',
        program: PYTHON,
        args: [script('grpc-client.py'), `${GRPC.host}:${GRPC.port}`, network.caFile],
        prints:
          'unary: 1000000 bytes came back\n64 at once: in their places\n500 messages streamed, in order\nDEADLINE_EXCEEDED\nthe server has seen it\n',
        maxStreams: 1,
      },
    ],
  };
};
