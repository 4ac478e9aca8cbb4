import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
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
  writeFileAtomically,
} from '../../runtime/index.ts';
import { prepareDatabase } from '../deploy/database.ts';
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
}

const LOOPBACK = '127.0.0.1';
const NODE = 'relay-1';
const AGENT = 'agent-1';
const GATEWAY = 'gateway-1';
/** Ports of the system that this one starts from: 5671 to connect, 9352 for data (product.md, A3). */
const RELAY_PORTS = ['5671', '9352'];
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

const openDirectory = (path: string): string => {
  const directory = resolve(path);
  const found = FILES.find((name) => existsSync(join(directory, name)));
  if (found !== undefined) {
    throw new AppError(
      'ERR_CLI_FILE_EXISTS',
      `${join(directory, found)} is there already; init overwrites nothing, give an empty directory`,
    );
  }
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    mkdirSync(join(directory, 'connections'), { mode: 0o700, recursive: true });
  } catch (error) {
    throw new AppError('ERR_CLI_STATE', `cannot make ${directory}: ${messageOf(error)}`, { cause: error });
  }
  return directory;
};

const portsOf = (texts: readonly string[]): number[] =>
  (texts.length === 0 ? RELAY_PORTS : texts).map((text) => {
    const { port } = parseHostPort(`localhost:${text}`);
    if (port === 0) throw new AppError('ERR_CLI_USAGE', '--relay-port is 1 to 65535');
    return port;
  });

const loopbackPorts = (publications: readonly Publication[]): number[] => [
  ...new Set(
    publications
      .filter(({ target: { host } }) => host === 'localhost' || host === '::1' || host.startsWith('127.'))
      .map(({ target }) => target.port),
  ),
];

const NOTES = {
  relay:
    'A relay node. Agents and gateways dial each node by its own host; all nodes share the control database and the\nkeyring.',
  agent:
    'The agent, on the private network. Paths are taken from this directory: move the whole of it, or the files it\nnames. Bundles count only when they are signed by the key of policy-signing.key.',
  gateway:
    'The gateway, beside the applications. It needs its own keys and ca.pem, nothing else of this directory.',
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
  const databaseUrl = options.database ?? environment['DATABASE_URL'];
  if (databaseUrl === undefined || databaseUrl === '') {
    throw new AppError(
      'ERR_CLI_USAGE',
      'init needs a PostgreSQL for connections, keys and audit: give --database URL or set DATABASE_URL',
    );
  }
  requireDatabaseUrl(databaseUrl);
  const directory = openDirectory(path);
  const file = (name: string): string => join(directory, name);

  output.progress('preparing the database …');
  const roles = await prepareDatabase(
    databaseUrl,
    { nodes: nodes.map(({ name }) => name), agent: AGENT },
    () => randomBytes(PASSWORD_BYTES).toString('base64url'),
  );
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
      { kind: 'agent', name: AGENT, keyFile: file('agent-audit.key') },
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
          controlPort: relayPorts[0] ?? 0,
          dataPorts: [...relayPorts].reverse(),
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
    agent: AGENT,
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
    bundleFile: 'bundle.tar.gz',
    policyKey: POLICY_KEY,
    allowLoopback: loopbackPorts(publications),
    allowAuditDatabase: false,
    connections: provisioned.connections.map(({ name, sendFile, listenFile }, index) => ({
      name,
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
