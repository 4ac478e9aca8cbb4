import type { ChildProcess } from 'node:child_process';
import { endProcess, forkProcess, portOf } from '../load/child.ts';
import type { TunnelKind } from './tunnel.ts';

interface Hop {
  readonly role: 'agent' | 'relay' | 'gateway';
  readonly file: string;
  readonly args: readonly string[];
}

/** Three Node processes in a row, a connection per stream and hop; listed from the target's side. */
const chain = (name: string, hops: readonly Hop[]): TunnelKind => ({
  name,
  unavailable: () => undefined,
  async open(targetPort) {
    const children: ChildProcess[] = [];
    const processes: Record<string, number> = {};
    let port = targetPort;
    for (const { role, file, args } of hops) {
      const child = forkProcess(`../tunnels/${file}`, [...args, String(port)]);
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

const PIPE = 'pipe-process.ts';
const TLS_PIPE = 'tls-pipe-process.ts';

/** `socket.pipe` through three Node processes: the same number of hops as the product, and nothing else. */
export const pipes: TunnelKind = chain('Node pipes x3', [
  { role: 'agent', file: PIPE, args: [] },
  { role: 'relay', file: PIPE, args: [] },
  { role: 'gateway', file: PIPE, args: [] },
]);

/** The same with TLS from the first to the third: what encryption alone costs on Node. */
export const tlsPipes: TunnelKind = chain('Node TLS pipes x3', [
  { role: 'agent', file: TLS_PIPE, args: ['far'] },
  { role: 'relay', file: PIPE, args: [] },
  { role: 'gateway', file: TLS_PIPE, args: ['near'] },
]);
