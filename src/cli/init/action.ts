import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { isConnectionName } from '../../identity/index.ts';
import { developmentBundle, keySigner, signBundle, writePolicySkeleton } from '../../policy/index.ts';
import {
  AppError,
  environment,
  formatHostPort,
  type HostPort,
  messageOf,
  parseHostPort,
  randomBytes,
  systemClock,
  withAbsoluteFiles,
  writeFileAtomically,
} from '../../runtime/index.ts';
import {
  type DatabaseRoles,
  loginsOf,
  prepareDatabase,
  requireChangeableRoles,
  requireUnusedDatabase,
} from '../deploy/database.ts';
import {
  createPolicyKey,
  ensureAuthority,
  ensureKeyring,
  ensureServerCertificate,
  ensureTrust,
} from '../deploy/material.ts';
import { provision } from '../deploy/provision.ts';
import {
  type NamedNode,
  parseListens,
  parseNodes,
  parsePublications,
  type Publication,
} from '../deploy/publication.ts';
import {
  agentSettings,
  gatewaySettings,
  type Installation,
  type NodeInstallation,
  relaySettings,
  writeSettings,
} from '../deploy/settings.ts';
import { schemaText } from '../check.ts';
import type { Output } from '../output.ts';
import { loopbackPorts, portsOf } from './ports.ts';
import { requireDatabaseUrl } from '../up/options.ts';
import { programName } from '../up/screen.ts';
import { packageRoot } from '../version.ts';

export interface InitOptions {
  readonly publish?: readonly string[];
  readonly listen?: readonly string[];
  readonly host: string;
  readonly node?: readonly string[];
  readonly relayPort?: readonly string[];
  readonly admin: string;
  readonly database?: string;
  readonly agent: string;
  readonly replaceLogins?: boolean;
}

const LOOPBACK = '127.0.0.1';
const NODE = 'relay-1';
const GATEWAY = 'gateway-1';
/** Where control links go as well, when the relay has it: many networks let nothing else out. */
const HTTPS_PORT = 443;
const STATUS_PORT = { relay: 9361, agent: 9362, gateway: 9363 };
/** Where applications connect unless --listen says so: this, and one more for each connection. */
const FIRST_LISTEN_PORT = 15_000;
const PASSWORD_BYTES = 24;
const CUT_AFTER_SECONDS = 300;
/** The key that signs bundles; `policy sign --key-id` and agent.yaml call it so. */
const POLICY_KEY = {
  id: 'policy-1',
  algorithm: 'ES256',
  privateKeyFile: 'policy-signing.key',
  publicKeyFile: 'policy-signing.pub',
} as const;

const FILES = [
  'relay.yaml',
  'relay.schema.json',
  'agent.yaml',
  'gateway.yaml',
  'keyring.json',
  'ca.key',
  'policy-signing.key',
  'trust.json',
  'policy',
];

/** The directory, and what takes it away again when nothing came of it: only what is empty and was made here. */
const openDirectory = (path: string): { readonly directory: string; readonly undo: () => void } => {
  const directory = resolve(path);
  const found = FILES.find((name) => existsSync(join(directory, name)));
  if (found !== undefined) {
    throw new AppError(
      'ERR_CLI_FILE_EXISTS',
      `${join(directory, found)} is there already; init overwrites nothing, give an empty directory`,
    );
  }
  const made: string[] = [];
  const make = (folder: string): void => {
    if (existsSync(folder)) return;
    make(dirname(folder));
    mkdirSync(folder, { mode: 0o700 });
    made.unshift(folder);
  };
  const undo = (): void => {
    for (const folder of made) rmdirSync(folder);
  };
  try {
    make(join(directory, 'connections'));
  } catch (error) {
    undo();
    throw new AppError('ERR_CLI_STATE', `cannot make ${directory}: ${messageOf(error)}`, { cause: error });
  }
  return { directory, undo };
};

/** What to do about a database that is in use. */
const WAY_ON = {
  data: 'give --database another one (and other names, when it is on the same server)',
  logins:
    'logins belong to the whole server: give other names (--node NAME=HOST, --agent NAME), or another server, or ' +
    '--replace-logins when what used them is gone, which gives them new passwords',
};

const POSTGRES_PORT = 5432;
const hostOf = (host: string): string =>
  host === '[::1]' || host === '::1' || host.startsWith('127.') ? 'localhost' : host.toLowerCase();

/** Names of the publications that lead to the database of the audit trail, which the guard refuses. */
export const ownDatabaseAmong = (publications: readonly Publication[], databaseUrl: string): string[] => {
  const { hostname, port } = new URL(databaseUrl);
  return publications
    .filter(
      ({ target }) =>
        hostOf(target.host) === hostOf(hostname) && target.port === Number(port || POSTGRES_PORT),
    )
    .map(({ name }) => name);
};

const NOTES = {
  relay:
    'A relay node. Agents and gateways dial each node by its own host; all nodes share the control database and the\nkeyring. Copy checkpoint_file to where their administrators cannot write (docs/operations.md, Checkpoints).',
  agent:
    'The agent, on the private network. Paths are taken from this directory: move the whole of it, or the files it\nnames. Bundles count only when they are signed by the key of policy-signing.key. Copy checkpoint_file\nto where administrators of the database cannot write (docs/operations.md, Checkpoints).',
  gateway:
    'The gateway, beside the applications. It needs its own keys and ca.pem, nothing else of this directory.\nWith `target: HOST:PORT` and `transparent: true` in a connection, and after `sallyport hosts apply -c gateway.yaml`,\napplications keep the name and port that they have always used (docs/transparent-names.md).',
};

const urlFiles = (stem: string): { readonly control: string; readonly audit: string } =>
  stem === 'relay'
    ? { control: 'control-database.url', audit: 'relay-audit-database.url' }
    : { control: `${stem}-control-database.url`, audit: `${stem}-audit-database.url` };

const listenHost = (host: string): string => {
  if (host === 'localhost') return LOOPBACK;
  return host.startsWith('127.') ? host : '0.0.0.0';
};

/** What a node's files are called by: one node's are the plain ones. */
const stemsOf = (nodes: readonly NamedNode[]): ReadonlyMap<string, string> =>
  new Map(nodes.map(({ name }) => [name, nodes.length === 1 ? 'relay' : name]));

/** The whole of `sallyport init`. */
export const runInit = async (path: string, options: InitOptions, output: Output): Promise<void> => {
  const clock = systemClock;
  const publications = parsePublications(options.publish ?? []);
  if (publications.length === 0) {
    throw new AppError('ERR_CLI_USAGE', 'what is to be reached? give at least one --publish NAME=HOST:PORT');
  }
  const listens = parseListens(
    options.listen ?? [],
    publications.map(({ name }) => name),
  );
  const relayPorts = portsOf(options.relayPort ?? []);
  const { host } = parseHostPort(`${options.host}:1`);
  const given = parseNodes(options.node ?? []);
  const nodes = given.length > 0 ? given : [{ name: NODE, host }];
  const stems = stemsOf(nodes);
  const stemOf = (name: string): string => stems.get(name) ?? name;
  const adminListen = parseHostPort(options.admin);
  if (!isConnectionName(options.agent)) {
    throw new AppError(
      'ERR_CLI_USAGE',
      `--agent ${JSON.stringify(options.agent)}: a name of lower-case letters, digits and dashes (at most 63)`,
    );
  }
  const givenUrl = options.database ?? environment['DATABASE_URL'];
  if (givenUrl === undefined || givenUrl === '') {
    throw new AppError(
      'ERR_CLI_USAGE',
      'init needs a PostgreSQL for connections, keys and audit: give --database URL or set DATABASE_URL',
    );
  }
  requireDatabaseUrl(givenUrl);
  const databaseUrl = withAbsoluteFiles(givenUrl);
  const own = ownDatabaseAmong(publications, databaseUrl);
  const { directory, undo } = openDirectory(path);
  const file = (name: string): string => join(directory, name);

  output.progress('preparing the database …');
  const names = { nodes: nodes.map(({ name }) => name), agent: options.agent };
  const isReplacing = options.replaceLogins === true;
  const openDatabase = async (): Promise<DatabaseRoles> => {
    await requireUnusedDatabase(databaseUrl, isReplacing ? [] : loginsOf(names), WAY_ON);
    await requireChangeableRoles(databaseUrl, isReplacing ? loginsOf(names) : []);
    const password = (): string => randomBytes(PASSWORD_BYTES).toString('base64url');
    return prepareDatabase(databaseUrl, names, password, isReplacing ? 'replace' : 'refuse');
  };
  const roles = await openDatabase().catch((error: unknown) => {
    undo();
    throw error;
  });
  output.progress('making keys and certificates …');
  const authority = await ensureAuthority(
    { certFile: file('ca.pem'), keyFile: file('ca.key') },
    `Sallyport CA of ${host}`,
    clock,
  );
  for (const node of nodes) {
    await ensureServerCertificate(
      { certFile: file(`${stemOf(node.name)}.pem`), keyFile: file(`${stemOf(node.name)}.key`) },
      authority,
      [...new Set([node.host, host, 'localhost'])],
      clock,
    );
  }
  ensureKeyring(file('keyring.json'));
  ensureTrust(
    { rootKeyFile: file('audit-root.key'), trustFile: file('trust.json') },
    [
      ...nodes.map(({ name }) => ({
        kind: 'relay' as const,
        name,
        keyFile: file(`${stemOf(name)}-audit.key`),
      })),
      { kind: 'agent', name: options.agent, keyFile: file('agent-audit.key') },
    ],
    clock,
  );
  output.progress('preparing connections and keys …');
  const provisioned = await provision({
    databaseUrl,
    keyringFile: file('keyring.json'),
    namespace: host,
    node: nodes[0]?.name ?? NODE,
    publicPort: relayPorts[0] ?? 0,
    publications,
    directory: file('connections'),
    tokenFile: file('owner.token'),
    credential: 'code',
    clock,
  });
  writePolicySkeleton(file('policy'), publications);
  const defaultBundle = readFileSync(new URL('policies/dist/default.tar.gz', packageRoot));
  const bundle = developmentBundle(
    defaultBundle,
    publications.map(({ name, target }) => ({ name, ...target })),
  );
  const signingKey = createPolicyKey({
    privateKeyFile: file(POLICY_KEY.privateKeyFile),
    publicKeyFile: file(POLICY_KEY.publicKeyFile),
  });
  writeFileAtomically(file('bundle.tar.gz'), await signBundle(bundle, keySigner(signingKey), POLICY_KEY.id));
  for (const { node, controlUrl, auditUrl } of roles.nodes) {
    writeFileAtomically(file(urlFiles(stemOf(node)).control), `${controlUrl}\n`);
    writeFileAtomically(file(urlFiles(stemOf(node)).audit), `${auditUrl}\n`);
  }
  writeFileAtomically(file('agent-audit-database.url'), `${roles.agentAuditUrl}\n`);
  const listenOf = (name: string, index: number): HostPort =>
    listens.get(name) ?? { host: LOOPBACK, port: FIRST_LISTEN_PORT + index };
  const status = (port: number): HostPort => ({ host: LOOPBACK, port });
  const installation: Installation = {
    namespace: host,
    nodes: nodes.map((node): NodeInstallation => {
      const stem = stemOf(node.name);
      return {
        name: node.name,
        public: {
          host: node.host,
          controlPorts: relayPorts.filter((port, index) => index === 0 || port === HTTPS_PORT),
          dataPorts: [...relayPorts.slice(1), ...relayPorts.slice(0, 1)],
        },
        listen: relayPorts.map((port) => ({ host: listenHost(node.host), port })),
        adminListen,
        statusListen: status(STATUS_PORT.relay),
        certFile: `${stem}.pem`,
        keyFile: `${stem}.key`,
        controlDatabaseFile: urlFiles(stem).control,
        auditDatabaseFile: urlFiles(stem).audit,
        auditKeyFile: `${stem}-audit.key`,
        stateDirectory: `state/${stem}`,
      };
    }),
    agent: options.agent,
    gateway: GATEWAY,
    statusListen: {
      agent: status(STATUS_PORT.agent),
      gateway: status(STATUS_PORT.gateway),
    },
    caFile: 'ca.pem',
    keyringFile: 'keyring.json',
    agentAuditDatabaseFile: 'agent-audit-database.url',
    cutAfterSeconds: CUT_AFTER_SECONDS,
    stateDirectory: { agent: 'state/agent', gateway: 'state/gateway' },
    agentAuditKeyFile: 'agent-audit.key',
    trustFile: 'trust.json',
    bundleFile: 'bundle.tar.gz',
    policyKey: POLICY_KEY,
    allowLoopback: loopbackPorts(publications),
    allowAuditDatabase: false,
    ownListeners: [],
    connections: provisioned.connections.map(({ name, sendFile, listenFile }, index) => ({
      name,
      ...(publications[index] === undefined ? {} : { target: publications[index].target }),
      sendFile: relative(directory, sendFile),
      listenFile: relative(directory, listenFile),
      listen: listenOf(name, index),
    })),
  };
  for (const kind of ['relay', 'agent', 'gateway'] as const) {
    writeFileAtomically(file(`${kind}.schema.json`), `${await schemaText(kind)}\n`);
  }
  for (const node of installation.nodes) {
    const settings = relaySettings(installation, node);
    writeSettings(file(`${stemOf(node.name)}.yaml`), NOTES.relay, settings, 'relay.schema.json');
  }
  writeSettings(file('agent.yaml'), NOTES.agent, agentSettings(installation), 'agent.schema.json');
  writeSettings(file('gateway.yaml'), NOTES.gateway, gatewaySettings(installation), 'gateway.schema.json');

  const typed = relative(process.cwd(), directory) || '.';
  const program_ = programName();
  const commands = [
    ...nodes.map(({ name }) => `${program_} relay -c ${typed}/${stemOf(name)}.yaml`),
    `${program_} agent -c ${typed}/agent.yaml`,
    `${program_} gateway -c ${typed}/gateway.yaml`,
    `${program_} status --admin http://${formatHostPort(adminListen)} --token-file ${typed}/owner.token`,
  ];
  output.progress(undefined);
  output.document({
    directory,
    owner_token_file: file('owner.token'),
    trust_file: file('trust.json'),
    admin_url: `http://${formatHostPort(adminListen)}`,
    connections: installation.connections.map(({ name, listen }, index) => ({
      name,
      target: formatHostPort(publications[index]?.target ?? { host: '', port: 0 }),
      listen: formatHostPort(listen),
    })),
    commands,
  });
  for (const name of own) {
    output.note(
      `warning: ${name} leads to the database that init was given, which has the audit trail: the agent refuses it (guard_denied, audit_database) unless agent.yaml has allow_audit_database: true`,
    );
  }
  output.line(`Written to ${directory}, for your eyes only (0600). The database is up to date.`);
  output.line();
  output.line(`Owner code (also in ${typed}/owner.token): ${provisioned.ownerCredential}`);
  output.line('It is good for one exchange within 24 h: the first command that is given --token-file');
  output.line(
    'owner.token puts the owner token in its place, there. The copy on this screen is then worthless.',
  );
  output.line();
  output.line('Start the processes, each where it belongs:');
  for (const text of commands.slice(0, -1)) output.line(`  ${text}`);
  output.line('and look:');
  output.line(`  ${commands.at(-1) ?? ''}`);
  output.line();
  output.line(
    `bundle.tar.gz allows exactly these targets. Edit ${typed}/policy, compile it (needs OPA) and sign it:`,
  );
  output.line(
    `  ${program_} policy build ${typed}/policy -o ${typed}/next.tar.gz --after ${typed}/bundle.tar.gz`,
  );
  output.line(
    `  ${program_} policy sign ${typed}/next.tar.gz -o ${typed}/bundle.tar.gz --key ${typed}/${POLICY_KEY.privateKeyFile} --key-id ${POLICY_KEY.id}`,
  );
  output.line(
    `Take ${typed}/audit-root.key, ca.key and ${POLICY_KEY.privateKeyFile} off this machine: they are needed to add processes and to change policy, not to run.`,
  );
};
