import { z } from 'zod';
import { formatHostPort, nearestKey, parseRange } from '../runtime/index.ts';
import { isLoopbackListen, MAX_CLIENT_RANGES } from './entrance/client-list.ts';
import { parseTarget } from './entrance/host-name.ts';
import { MAX_CREDENTIAL_BYTES, MAX_USERS, MIN_PASSWORD_LENGTH } from './entrance/users.ts';

/** SOCKS5 listeners, and HTTP CONNECT listeners, of one gateway. */
const MAX_ENTRANCES = 16;
const USER_NAME = /^[A-Za-z0-9._@-]{1,63}$/;

const range = z.string().superRefine((text, context) => {
  const problem = parseRange(text);
  if (typeof problem === 'string') context.addIssue({ code: 'custom', message: problem });
});

/** Whom a listener takes connections of; default, on loopback only: this machine. */
export const clientsSchema = z.array(range).min(1).max(MAX_CLIENT_RANGES).optional();

/** What applications ask a SOCKS5 or CONNECT entrance for. */
export const targetSchema = z
  .string()
  .refine(
    (text) => (parseTarget(text)?.port ?? 0) > 0,
    'a target is HOST:PORT, like sql01.corp.example:1433 or [fd00::7]:1433',
  );

const userSchema = z.strictObject({
  name: z.string().regex(USER_NAME, 'letters, digits and ._@-, at most 63'),
  password: z
    .string()
    .min(MIN_PASSWORD_LENGTH)
    .refine(
      (text) => Buffer.byteLength(text) <= MAX_CREDENTIAL_BYTES,
      `a password has at most ${MAX_CREDENTIAL_BYTES} bytes`,
    ),
});

const entranceSchema = z.strictObject({
  /** `ADDR:PORT` for applications; port 0 takes any free one. */
  listen: z.string().min(1),
  /** Names of the connections that it leads to; default: all of this gateway. */
  connections: z.array(z.string()).min(1).optional(),
  clients: clientsSchema,
  /** Who may use it; default: whoever reaches it. */
  users: z.array(userSchema).min(1).max(MAX_USERS).optional(),
});

export const entrancesSchema = z.array(entranceSchema).max(MAX_ENTRANCES).default([]);

interface Connection {
  readonly name: string;
  readonly transparent?: boolean | undefined;
  readonly listen?: string | undefined;
  readonly clients?: readonly string[] | undefined;
  readonly target?: string | undefined;
}

interface Listeners {
  readonly connections: readonly Connection[];
  readonly socks5: z.output<typeof entrancesSchema>;
  readonly http_connect: z.output<typeof entrancesSchema>;
}

interface Problem {
  readonly path: (string | number)[];
  readonly message: string;
}

/** Index and value of what an earlier entry has as well. */
const repeated = (values: readonly (string | undefined)[]): { index: number; value: string }[] =>
  values.flatMap((value, index) =>
    value !== undefined && values.indexOf(value) < index ? [{ index, value }] : [],
  );

const ENTRANCE_KEYS = ['socks5', 'http_connect'] as const;

const listenProblems = ({ connections, ...entrances }: Listeners): Problem[] => {
  const all = [
    ...connections.map(({ listen, clients }, index) => ({ path: ['connections', index], listen, clients })),
    ...ENTRANCE_KEYS.flatMap((key) =>
      entrances[key].map(({ listen, clients }, index) => ({ path: [key, index], listen, clients })),
    ),
  ];
  const fixed = all.map(({ listen }) => (listen?.endsWith(':0') === true ? undefined : listen));
  return [
    ...repeated(fixed).map(({ index, value }) => ({
      path: [...(all[index]?.path ?? []), 'listen'],
      message: `something else of this gateway already listens on ${value}`,
    })),
    ...all.flatMap(({ path, listen, clients }) =>
      listen === undefined || clients !== undefined || isLoopbackListen(listen)
        ? []
        : [
            {
              path: [...path, 'listen'],
              message: `${listen} is not an address of loopback: say in clients who may connect, like [10.1.0.0/16], or [0.0.0.0/0, '::/0'] for everybody`,
            },
          ],
    ),
    ...connections.flatMap(({ listen, clients }, index) =>
      listen === undefined && clients !== undefined
        ? [{ path: ['connections', index, 'clients'], message: 'clients without listen restrict nothing' }]
        : [],
    ),
  ];
};

const targetProblems = ({ connections }: Listeners): Problem[] => {
  const targets = connections.map(({ target }) => (target === undefined ? undefined : parseTarget(target)));
  const names = new Map(connections.map(({ name }, index) => [name, index]));
  return [
    ...repeated(targets.map((target) => (target === undefined ? undefined : formatHostPort(target)))).map(
      ({ index, value }) => ({
        path: ['connections', index, 'target'],
        message: `another connection of this gateway has the target ${value}`,
      }),
    ),
    ...targets.flatMap((target, index) => {
      const other = names.get(target?.host ?? '');
      return other === undefined || other === index
        ? []
        : [
            {
              path: ['connections', index, 'target'],
              message: `${target?.host ?? ''} is the name of another connection as well: an application that asks for it could mean either`,
            },
          ];
    }),
  ];
};

const entranceProblems = ({ connections, ...entrances }: Listeners): Problem[] => {
  const names = connections.map(({ name }) => name);
  const reached = new Set<string>();
  const problems: Problem[] = [];
  for (const key of ENTRANCE_KEYS) {
    for (const [index, { connections: listed, users }] of entrances[key].entries()) {
      for (const name of listed ?? names) reached.add(name);
      for (const [at, name] of (listed ?? []).entries()) {
        if (names.includes(name)) continue;
        const near = nearestKey(name, names);
        const meant = near === undefined ? '' : `, did you mean ${near}?`;
        problems.push({
          path: [key, index, 'connections', at],
          message: `no connection ${name} is here${meant}`,
        });
      }
      for (const { index: at, value } of repeated(users?.map(({ name }) => name) ?? []))
        problems.push({ path: [key, index, 'users', at, 'name'], message: `user ${value} is there twice` });
    }
  }
  for (const [index, { name, listen, transparent }] of connections.entries()) {
    if (listen !== undefined || transparent === true || reached.has(name)) continue;
    problems.push({
      path: ['connections', index],
      message: `nothing leads to connection ${name}: it has no listen, is not transparent, and no entry of socks5 or http_connect has it`,
    });
  }
  return problems;
};

/** What is wrong with the ways into a gateway beyond the form of each. */
export const entrancesProblems = (value: Listeners): readonly Problem[] => [
  ...listenProblems(value),
  ...targetProblems(value),
  ...entranceProblems(value),
];
