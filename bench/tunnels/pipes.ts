import type { ChildProcess } from 'node:child_process';
import { endProcess, forkProcess, portOf } from '../load/child.ts';
import type { TunnelKind } from './tunnel.ts';

const HOPS = ['agent', 'relay', 'gateway'] as const;

/** `socket.pipe` through three Node processes: the same number of hops as the product, and nothing else. */
export const pipes: TunnelKind = {
  name: 'Node pipes x3',
  unavailable: () => undefined,
  async open(targetPort) {
    const children: ChildProcess[] = [];
    const processes: Record<string, number> = {};
    let port = targetPort;
    for (const hop of HOPS) {
      const child = forkProcess('../tunnels/pipe-process.ts', [String(port)]);
      children.push(child);
      port = await portOf(child);
      processes[hop] = child.pid ?? 0;
    }
    return {
      port,
      processes,
      close: async () => {
        await Promise.all(children.map((child) => endProcess(child)));
      },
    };
  },
};
