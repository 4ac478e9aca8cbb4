import { Counter, Registry } from 'prom-client';
import type { Application } from '../../../src/gateway/application.ts';
import { ConnectEntrance } from '../../../src/gateway/entrance/connect-entrance.ts';
import type { ConversationLimits } from '../../../src/gateway/entrance/conversations.ts';
import { Destinations } from '../../../src/gateway/entrance/destinations.ts';
import type { Entrance, EntranceSettings } from '../../../src/gateway/entrance/entrance.ts';
import { Refusals } from '../../../src/gateway/entrance/refusals.ts';
import { Socks5Entrance } from '../../../src/gateway/entrance/socks5-entrance.ts';
import type { LinkPool } from '../../../src/gateway/link-pool.ts';
import { type Logger, silentLogger, TimerWheel } from '../../../src/runtime/index.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import type { Closer } from '../../support/temporary.ts';

export interface EntranceRig {
  readonly clock: ManualClock;
  readonly entrance: Entrance;
  readonly listen: string;
  /** Applications whose request was good, with the connection that it was for, in order. */
  readonly accepted: { readonly application: Application; readonly connection: string }[];
  /** The next of them, past or to come. */
  next(): Promise<{ readonly application: Application; readonly connection: string }>;
  /** Clients that were refused so far, by cause. */
  refused(): Promise<Record<string, number>>;
  /** Lines that were logged of them. */
  readonly lines: Record<string, unknown>[];
}

export interface RigOptions {
  readonly settings?: Partial<EntranceSettings>;
  readonly limits?: ConversationLimits;
  /** Connections and their targets; default: `orders-db` at sql01.corp.example:1433, and `shop` without. */
  readonly connections?: Readonly<Record<string, string | undefined>>;
}

export const ORDERS: Readonly<Record<string, string | undefined>> = {
  'orders-db': 'sql01.corp.example:1433',
  shop: undefined,
};

/** A real listener on loopback, with a clock that stands still and without a gateway behind it. */
export const startEntrance = async (
  t: Closer,
  kind: 'socks5' | 'http_connect',
  options: RigOptions = {},
): Promise<EntranceRig> => {
  const clock = new ManualClock();
  const registry = new Registry();
  const counter = new Counter({
    name: 'refused_total',
    help: 'as the gateway has it',
    labelNames: ['entrance', 'cause'],
    registers: [registry],
  });
  const lines: Record<string, unknown>[] = [];
  const logger = {
    ...silentLogger,
    warn: (fields: Record<string, unknown>) => lines.push(fields),
    debug: () => undefined,
  } as unknown as Logger;
  const accepted: { application: Application; connection: string }[] = [];
  const waiting: ((one: { application: Application; connection: string }) => void)[] = [];
  let taken = 0;
  const connections = Object.entries(options.connections ?? ORDERS);
  const Kind = kind === 'socks5' ? Socks5Entrance : ConnectEntrance;
  const entrance = new Kind({
    settings: { listen: '127.0.0.1:0', ...options.settings },
    destinations: new Destinations(
      connections.map(([connection, target]) => ({ pool: { connection } as unknown as LinkPool, target })),
    ),
    wheel: new TimerWheel(clock),
    logger: silentLogger,
    refusals: new Refusals(clock, logger, counter),
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    accept: (application, { connection }) => {
      const one = { application, connection };
      accepted.push(one);
      const waiter = waiting.shift();
      if (waiter === undefined) return;
      taken += 1;
      waiter(one);
    },
  });
  await entrance.open();
  t.after(() => {
    entrance.close();
    entrance.destroy();
    for (const { application } of accepted) application.socket.destroy();
  });
  return {
    clock,
    entrance,
    listen: entrance.listen,
    accepted,
    next() {
      const there = accepted[taken];
      if (there === undefined) return new Promise((resolve) => waiting.push(resolve));
      taken += 1;
      return Promise.resolve(there);
    },
    async refused() {
      const { values } = await counter.get();
      return Object.fromEntries(values.map(({ labels, value }) => [String(labels.cause), value]));
    },
    lines,
  };
};
