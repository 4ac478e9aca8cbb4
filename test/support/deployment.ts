import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { parse, stringify } from 'yaml';
import { createAdminClient } from '../../src/cli/manage/admin-client.ts';
import { openControl } from '../../src/control/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { liveStateOf } from '../control/control-fixture.ts';
import { type Background, startBackground } from './background.ts';
import { type CommandResult, sallyport, sallyportProgram } from './command.ts';
import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';
import { startPostgres, type TestPostgres } from './postgres.ts';
import { type Closer, temporaryDirectory } from './temporary.ts';

/** A process; the relays of a deployment with several nodes are called by their nodes' names. */
export type Role = 'relay' | 'agent' | 'gateway' | `relay-${string}`;
export type Settings = Record<string, unknown>;

export interface DeploymentOptions {
  readonly publish: Readonly<Record<string, string>>;
  /** Relay nodes, each with a loopback address of its own as its host; default: one, `relay`, at localhost. */
  readonly nodes?: Readonly<Record<`relay-${string}`, string>>;
  /** Changes to a configuration after `init` has written it. */
  readonly edit?: Partial<Record<Role, (settings: Settings) => void>>;
}

/** What `sallyport init` wrote, with the processes started apart, as an operator would. */
export interface Deployment {
  readonly directory: string;
  readonly postgres: TestPostgres;
  readonly databaseUrl: string;
  /** Of the first node. */
  readonly adminUrl: string;
  /** The management API of one node. */
  adminUrlOf(role: Role): string;
  /** One port for control and data. */
  readonly relayPort: number;
  readonly relayHost: string;
  readonly adminToken: string;
  readonly gatewayFile: string;
  listenOf(connection: string): string;
  statusUrl(role: Role): string;
  edit(role: Role, change: (settings: Settings) => void): void;
  /** Starts one process and resolves with it at once; `ready` waits until it says it is. */
  start(role: Role): Background;
  /** Waits until the process says that a stream would work now. */
  ready(role: Role): Promise<void>;
  startAll(): Promise<void>;
  process(role: Role): Background;
  /** SIGKILL, and the end awaited. */
  kill(role: Role): Promise<void>;
  command(...args: string[]): Promise<CommandResult>;
  rows<T>(sql: string, values?: readonly unknown[]): Promise<T[]>;
}

/** An edit of gateway.yaml: applications reach every connection under the name and port of its target, by connection. */
export const transparently =
  (targets: Readonly<Record<string, string>>) =>
  (settings: Settings): void => {
    for (const connection of settings['connections'] as Settings[]) {
      connection['target'] = targets[String(connection['name'])];
      connection['transparent'] = true;
      Reflect.deleteProperty(connection, 'listen');
    }
  };

const READY_DEADLINE_MS = 60_000;

/** Does what an operator's first command does: the one-time code that `init` wrote becomes a token, in its file. */
const exchangeOwnerCode = async (directory: string, databaseUrl: string): Promise<string> => {
  const tokenFile = join(directory, 'owner.token');
  const control = await openControl({
    databaseUrl,
    keyring: join(directory, 'keyring.json'),
    namespace: 'localhost',
    node: 'exchange',
    clock: systemClock,
    logger: silentLogger,
  });
  try {
    const options = { listen: '127.0.0.1:0', live: liveStateOf(), version: '0.0.0' };
    const server = await control.createManagementServer(options);
    const token = readFileSync(tokenFile, 'utf8').trim();
    await createAdminClient({ url: server.url, token, tokenFile }).get('/tokens');
    await server.close();
    return readFileSync(tokenFile, 'utf8').trim();
  } finally {
    await control.close();
  }
};

/** Runs `sallyport init` against a Postgres of its own; nothing is started yet. */
export const createDeployment = async (t: Closer, options: DeploymentOptions): Promise<Deployment> => {
  const postgres = await startPostgres();
  t.after(() => postgres.stop());
  const databaseUrl = await postgres.createDatabase();
  const directory = join(temporaryDirectory(t, 'deployment'), 'files');
  const relayPort = await freePort();
  const adminPort = await freePort();
  const listens = new Map<string, string>();
  const args = [
    '--database',
    databaseUrl,
    '--admin',
    `127.0.0.1:${adminPort}`,
    '--relay-port',
    String(relayPort),
  ];
  for (const [name, host] of Object.entries(options.nodes ?? {})) args.push('--node', `${name}=${host}`);
  const relays: readonly Role[] =
    options.nodes === undefined ? ['relay'] : (Object.keys(options.nodes) as Role[]);
  const roles: readonly Role[] = [...relays, 'agent', 'gateway'];
  for (const [name, target] of Object.entries(options.publish)) {
    const listen = `127.0.0.1:${await freePort()}`;
    listens.set(name, listen);
    args.push('--publish', `${name}=${target}`, '--listen', `${name}=${listen}`);
  }
  const init = await sallyport(['init', directory, ...args]);
  if (init.code !== 0) throw new Error(`init exited ${init.code ?? '?'}:\n${init.stdout}${init.stderr}`);

  const configFile = (role: Role): string => join(directory, `${role}.yaml`);
  const edit = (role: Role, change: (settings: Settings) => void): void => {
    const settings = parse(readFileSync(configFile(role), 'utf8')) as Settings;
    change(settings);
    writeFileSync(configFile(role), stringify(settings));
  };
  const statusPorts = new Map<Role, number>();
  const adminPorts = new Map<Role, number>();
  for (const role of roles) {
    statusPorts.set(role, await freePort());
    if (relays.includes(role)) adminPorts.set(role, role === relays[0] ? adminPort : await freePort());
    edit(role, (settings) => {
      settings.status = { listen: `127.0.0.1:${statusPorts.get(role)}` };
      if (adminPorts.has(role)) settings.admin = { listen: `127.0.0.1:${adminPorts.get(role)}` };
      options.edit?.[role]?.(settings);
    });
  }
  const statusUrl = (role: Role): string => `http://127.0.0.1:${statusPorts.get(role)}`;
  const tokenFile = join(directory, 'owner.token');
  const adminUrl = `http://127.0.0.1:${adminPort}`;
  const adminToken = await exchangeOwnerCode(directory, databaseUrl);
  const running = new Map<Role, Background>();

  const processOf = (role: Role): Background => {
    const found = running.get(role);
    if (found === undefined) throw new Error(`the ${role} was not started`);
    return found;
  };
  const start = (role: Role): Background => {
    const background = startBackground(
      t,
      process.execPath,
      [sallyportProgram, relays.includes(role) ? 'relay' : role, '-c', configFile(role)],
      {
        cwd: directory,
      },
    );
    running.set(role, background);
    return background;
  };
  const ready = async (role: Role): Promise<void> => {
    await eventually(
      `the ${role} is ready`,
      async () => {
        const background = processOf(role);
        const code = background.child.exitCode;
        if (code !== null) throw new Error(`it ended with ${code}:\n${background.output()}`);
        const response = await fetch(`${statusUrl(role)}/readyz`);
        const text = await response.text();
        if (response.status !== 200)
          throw new Error(`${response.status} ${text}\n${background.output().slice(-2_000)}`);
        return true;
      },
      READY_DEADLINE_MS,
    );
  };
  return {
    directory,
    postgres,
    databaseUrl,
    adminUrl,
    adminUrlOf: (role) => `http://127.0.0.1:${adminPorts.get(role)}`,
    relayPort,
    relayHost: 'localhost',
    gatewayFile: configFile('gateway'),
    adminToken,
    listenOf(name) {
      const found = listens.get(name);
      if (found === undefined) throw new Error(`the deployment has no connection ${name}`);
      return found;
    },
    statusUrl,
    edit,
    start,
    ready,
    async startAll() {
      for (const role of roles) start(role);
      for (const role of roles) await ready(role);
    },
    process: processOf,
    async kill(role) {
      await processOf(role).end('SIGKILL');
    },
    command: (...rest) =>
      sallyport([
        ...rest,
        ...(rest.includes('--admin') ? [] : ['--admin', adminUrl]),
        '--token-file',
        tokenFile,
      ]),
    async rows<T>(sql: string, values: readonly unknown[] = []) {
      const client = new pg.Client({ connectionString: databaseUrl });
      await client.connect();
      try {
        return (await client.query(sql, [...values])).rows as T[];
      } finally {
        await client.end();
      }
    },
  };
};
