import { formatHostPort, type HostPort, isLoopbackHost, writeFileAtomically } from '../../runtime/index.ts';
import { type DatabaseRoles, withRole } from '../deploy/database.ts';
import type { Provisioned } from '../deploy/provision.ts';
import type { Publication } from '../deploy/publication.ts';
import {
  agentSettings,
  gatewaySettings,
  type Installation,
  type NodeInstallation,
  relaySettings,
  writeSettings,
} from '../deploy/settings.ts';
import type { ReadyFile } from '../ready-file.ts';
import { version } from '../version.ts';
import { AUDIT_CONNECTION } from './options.ts';
import type { StatePaths } from './state.ts';

/** What `up` calls its own parts; the relay's name must be one that TLS can verify and SNI can carry. */
export const UP = {
  host: 'localhost',
  loopback: '127.0.0.1',
  node: 'relay-1',
  agent: 'agent-1',
  gateway: 'gateway-1',
} as const;

/** Streams may finish this long when `up` stops (protocol.md, Liveness). */
const DRAIN_SECONDS = 2;

export interface InstallationParts {
  readonly paths: StatePaths;
  readonly databaseUrl: string;
  readonly roles: DatabaseRoles;
  /** Login that reads the audit views. */
  readonly reader: { readonly name: string; readonly password: string };
  readonly relayPort: number;
  readonly provisioned: Provisioned;
  readonly publications: readonly Publication[];
  readonly bundleFile: string;
  readonly allowAuditDatabase: boolean;
  /** Where applications reach a connection. */
  readonly listenOf: (name: string) => Promise<HostPort>;
  /** A remembered port of one of our own listeners. */
  readonly portOf: (key: string) => Promise<number>;
}

const missingNode = (): never => {
  throw new Error('the database was prepared for no relay node');
};

/** The one relay node that `up` has. */
export const nodeOf = ({ nodes: [node = missingNode()] }: Installation): NodeInstallation => node;

/** Everything that the three configurations say, with the secrets that they name put into their files. */
export const upInstallation = async (parts: InstallationParts): Promise<Installation> => {
  const { relayPort } = parts;
  const file = (name: string): string => parts.paths.file(name);
  const secret = (name: string, text: string): string => {
    writeFileAtomically(file(name), `${text}\n`);
    return file(name);
  };
  const loopback = async (key: string): Promise<HostPort> => ({
    host: UP.loopback,
    port: await parts.portOf(key),
  });
  const connections = [];
  for (const { name, sendFile, listenFile } of parts.provisioned.connections) {
    connections.push({ name, sendFile, listenFile, listen: await parts.listenOf(name) });
  }
  const [{ controlUrl, auditUrl } = missingNode()] = parts.roles.nodes;
  const loopbackTargets = parts.publications.filter(({ target }) => isLoopbackHost(target.host));
  return {
    namespace: UP.host,
    nodes: [
      {
        name: UP.node,
        public: { host: UP.host, controlPorts: [relayPort], dataPorts: [relayPort] },
        listen: [{ host: UP.loopback, port: relayPort }],
        adminListen: await loopback('admin'),
        statusListen: await loopback('relay-status'),
        certFile: file('relay.pem'),
        keyFile: file('relay.key'),
        controlDatabaseFile: secret('control-database.url', controlUrl),
        auditDatabaseFile: secret('relay-audit-database.url', auditUrl),
        auditKeyFile: file('relay-audit.key'),
        stateDirectory: file('relay'),
      },
    ],
    agent: UP.agent,
    gateway: UP.gateway,
    statusListen: {
      agent: await loopback('agent-status'),
      gateway: await loopback('gateway-status'),
    },
    caFile: file('ca.pem'),
    keyringFile: file('keyring.json'),
    agentAuditDatabaseFile: secret('agent-audit-database.url', parts.roles.agentAuditUrl),
    cutAfterSeconds: 'never',
    stateDirectory: { agent: file('agent'), gateway: file('gateway') },
    agentAuditKeyFile: file('agent-audit.key'),
    trustFile: file('trust.json'),
    bundleFile: parts.bundleFile,
    policyKey: undefined,
    allowLoopback: [...new Set(loopbackTargets.map(({ target }) => target.port))],
    allowAuditDatabase: parts.allowAuditDatabase,
    ownListeners: connections.map(({ listen }) => listen),
    drainSeconds: DRAIN_SECONDS,
    connections,
  };
};

const heading = (name: string): string =>
  `Written by \`sallyport up\` at each start; changes here are lost. What a deployment's ${name}.yaml looks like\nis shown by \`sallyport init DIR\`.`;

/** Writes relay.yaml, agent.yaml and gateway.yaml. */
export const writeUpSettings = (paths: StatePaths, installation: Installation): void => {
  writeSettings(paths.config('relay'), heading('relay'), relaySettings(installation, nodeOf(installation)));
  writeSettings(paths.config('agent'), heading('agent'), agentSettings(installation));
  writeSettings(paths.config('gateway'), heading('gateway'), gatewaySettings(installation));
};

/** What the ready file says of an installation. */
export const readyFileOf = (
  parts: InstallationParts,
  installation: Installation,
  pids: ReadyFile['pids'],
): ReadyFile => {
  const { paths, databaseUrl, reader } = parts;
  const targets = new Map(parts.publications.map(({ name, target }) => [name, formatHostPort(target)]));
  const audit = installation.connections.find(({ name }) => name === AUDIT_CONNECTION);
  return {
    version,
    pids,
    relay: {
      url: `https://${UP.host}:${String(nodeOf(installation).public.controlPorts[0])}`,
      admin_url: `http://${formatHostPort(nodeOf(installation).adminListen)}`,
    },
    admin_token_file: paths.file('owner.token'),
    ca_file: installation.caFile,
    trust_file: paths.file('trust.json'),
    database_url: databaseUrl,
    audit_read_url: audit === undefined ? null : withRole(databaseUrl, reader, audit.listen),
    state_dir: paths.root,
    policy_bundle: installation.bundleFile,
    agent: { name: UP.agent, status_url: `http://${formatHostPort(installation.statusListen.agent)}` },
    gateway: { status_url: `http://${formatHostPort(installation.statusListen.gateway)}` },
    connections: installation.connections.map((connection) => ({
      name: connection.name,
      target: targets.get(connection.name) ?? '',
      listen: formatHostPort(connection.listen),
      send_connection_string_file: connection.sendFile,
      listen_connection_string_file: connection.listenFile,
    })),
  };
};
