import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Closer } from './temporary.ts';

export interface Forwarder {
  readonly port: number;
  /** Forwards nothing until `thaw`: neither way, or only what comes back. Connections are accepted all the same. */
  freeze(way?: 'both' | 'back'): void;
  thaw(): void;
}

/** A port that leads to another one and can fall silent, as a stopped process or a black hole on the way does. */
export const forwardTo = async (t: Closer, port: number): Promise<Forwarder> => {
  let frozen: 'both' | 'back' | undefined;
  const pairs = new Set<readonly [there: Socket, back: Socket]>();
  const steer = ([there, back]: readonly [Socket, Socket]): void => {
    if (frozen === 'both') there.pause();
    else there.resume();
    if (frozen === undefined) back.resume();
    else back.pause();
  };
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (there) => {
    const back = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    const pair = [there, back] as const;
    pairs.add(pair);
    for (const [from, to] of [
      [there, back],
      [back, there],
    ] as const) {
      from.on('error', () => undefined);
      from.on('data', (chunk: Buffer) => to.write(chunk));
      from.on('end', () => to.end());
      from.on('close', () => {
        pairs.delete(pair);
        to.destroy();
      });
    }
    steer(pair);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    for (const pair of pairs) for (const socket of pair) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  const set = (to: typeof frozen): void => {
    frozen = to;
    for (const pair of pairs) steer(pair);
  };
  return {
    port: (server.address() as AddressInfo).port,
    freeze: (way = 'both') => set(way),
    thaw: () => set(undefined),
  };
};
