import type { DriverFamily } from '../family.ts';
import { API_HOST } from './api.ts';
import { startGrpc } from './grpc.ts';
import { startHttp2 } from './http2.ts';
import { startMail } from './mail.ts';
import { startRedis } from './redis.ts';
import { startShell } from './shell.ts';
import { startWebSocket } from './web-socket.ts';

/** What else runs over TCP: Redis, SSH, SMTP, gRPC, WebSocket, HTTP/2. */
export const protocols: DriverFamily = {
  name: 'protocols',
  needs: {
    curl: 'curl',
    exim4: 'exim4-daemon-light',
    'redis-cli': 'redis-tools',
    'redis-server': 'redis-server',
    scp: 'openssh-client',
    sftp: 'openssh-client',
    ssh: 'openssh-client',
    sshd: 'openssh-server',
  },
  async setUp(t, network) {
    const certificate = await network.certificate(API_HOST);
    const parts = await Promise.all([
      startRedis(t, network),
      startShell(t, network),
      startMail(t, network),
      startGrpc(t, network, certificate),
      startWebSocket(t, network, certificate),
      startHttp2(t, network, certificate),
    ]);
    return {
      targets: Object.assign({}, ...parts.map(({ targets }) => targets)),
      cases: parts.flatMap(({ cases }) => cases),
    };
  },
};
