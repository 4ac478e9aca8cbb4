import type { ChildProcess } from 'node:child_process';
import { endProcess, forkProcess, portOf } from '../load/child.ts';
import type { TunnelKind } from './tunnel.ts';

const ROLES = ['agent', 'relay', 'gateway'] as const;

/** Three Node processes in a row, a connection per stream and hop, begun at the target's side. */
const chain = (name: string, hops: Readonly<Record<(typeof ROLES)[number], string>>): TunnelKind => ({
  name,
  unavailable: () => undefined,
  async open(targetPort) {
    const children: ChildProcess[] = [];
    const processes: Record<string, number> = {};
    let port = targetPort;
    for (const role of ROLES) {
      const child = forkProcess('../tunnels/pipe-process.ts', [hops[role], String(port)]);
      children.push(child);
      port = await portOf(child);
      processes[role] = child.pid ?? 0;
    }
    return {
      port,
      processes,
      close: async () => {
        await Promise.all(children.map((child) => endProcess(child)));
      },
    };
  },
});

/** `socket.pipe` through three Node processes: the same number of hops as the product, and nothing else. */
export const pipes: TunnelKind = chain('Node pipes x3', { agent: 'plain', relay: 'plain', gateway: 'plain' });

/** The same with TLS from the first to the third: what encryption alone costs on Node. */
export const tlsPipes: TunnelKind = chain('Node TLS pipes x3', {
  agent: 'far',
  relay: 'plain',
  gateway: 'near',
});
