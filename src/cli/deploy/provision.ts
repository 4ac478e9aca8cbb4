import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type Control, type LiveState, openControl } from '../../control/index.ts';
import { formatConnectionString, keyIdOf, parseConnectionString } from '../../identity/index.ts';
import { type Clock, formatHostPort, silentLogger, writeFileAtomically } from '../../runtime/index.ts';
import { type AdminClient, createAdminClient } from '../manage/admin-client.ts';
import { version } from '../version.ts';
import type { Publication } from './publication.ts';

/** Whose keys the two ends use. */
const SENDER = 'defaultSender';
const LISTENER = 'defaultListener';

export interface ProvisionOptions {
  readonly databaseUrl: string;
  readonly keyringFile: string;
  readonly namespace: string;
  readonly node: string;
  /** Port of the relay, for connection strings. */
  readonly publicPort: number;
  readonly publications: readonly Publication[];
  /** Where connection strings are put, 0600. */
  readonly directory: string;
  /** Where the owner's management token, or the one-time code for it, is put, 0600. */
  readonly tokenFile: string;
  /** `token`: for the machine's own use, it replaces that of the last start; `code`: to be shown to a person. */
  readonly credential: 'token' | 'code';
  readonly clock: Clock;
}

export interface Provisioned {
  /** The token or the code that is in `tokenFile`; a secret. */
  readonly ownerCredential: string;
  readonly connections: readonly {
    readonly name: string;
    /** Files with the connection strings of gateway and agent. */
    readonly sendFile: string;
    readonly listenFile: string;
  }[];
}

/** No relay runs in this process: nothing is live here. */
const NOTHING_LIVE: LiveState = {
  logins: () => [],
  links: () => [],
  streams: () => Promise.resolve([]),
  lastFailures: () => [],
  closeStream: () => Promise.resolve(false),
};

const connectionsSchema = z.array(
  z.object({ name: z.string(), target: z.object({ host: z.string(), port: z.number() }) }),
);
const keysSchema = z.array(z.object({ key_id: z.string(), auth_rule: z.string(), state: z.string() }));
const disclosedSchema = z.object({
  key_id: z.string(),
  auth_rule: z.string(),
  slot: z.string(),
  connection_string: z.string(),
});
const createdSchema = z.object({ keys: z.array(disclosedSchema) });
const rotatedSchema = z.object({ key: disclosedSchema });

type Disclosed = z.infer<typeof disclosedSchema>;

const path = (name: string): string => encodeURIComponent(name);

/** The connection with its target as wanted; keys when it had to be made. */
const ensureConnection = async (
  client: AdminClient,
  publication: Publication,
): Promise<readonly Disclosed[]> => {
  const { name, target } = publication;
  const known = connectionsSchema.parse(await client.list('/connections')).find((one) => one.name === name);
  if (known === undefined) {
    return createdSchema.parse(await client.post('/connections', { name, target })).keys;
  }
  if (formatHostPort(known.target) !== formatHostPort(target)) {
    await client.patch(`/connections/${path(name)}`, { target });
  }
  return [];
};

/** Keeps the connection string of a file while its key is good; else puts a new key there. */
const ensureConnectionString = async (
  client: AdminClient,
  options: ProvisionOptions,
  name: string,
  rule: string,
  created: readonly Disclosed[],
  activeKeys: ReadonlySet<string>,
): Promise<string> => {
  const file = join(options.directory, `${name}.${rule === SENDER ? 'send' : 'listen'}`);
  const kept = existsSync(file) ? tryParse(readFileSync(file, 'utf8')) : undefined;
  if (kept !== undefined && activeKeys.has(keyIdOf(kept.key))) {
    const text = formatConnectionString({ ...kept, host: options.namespace, port: options.publicPort });
    writeFileAtomically(file, `${text}\n`);
    return file;
  }
  const fresh =
    created.find((key) => key.auth_rule === rule && key.slot === 'primary') ??
    rotatedSchema.parse(
      await client.post(`/auth-rules/${path(name)}/${path(rule)}/rotate`, { slot: 'primary' }),
    ).key;
  writeFileAtomically(file, `${fresh.connection_string}\n`);
  return file;
};

const tryParse = (text: string): ReturnType<typeof parseConnectionString> | undefined => {
  try {
    return parseConnectionString(text.trim());
  } catch {
    return undefined;
  }
};

const provisionWith = async (
  client: AdminClient,
  options: ProvisionOptions,
): Promise<Provisioned['connections']> => {
  const connections = [];
  for (const publication of options.publications) {
    const { name } = publication;
    const created = await ensureConnection(client, publication);
    const keys = keysSchema.parse(await client.list('/keys', { scope: name }));
    const active = new Set(keys.filter(({ state }) => state === 'active').map((key) => key.key_id));
    const file = (rule: string): Promise<string> =>
      ensureConnectionString(client, options, name, rule, created, active);
    connections.push({ name, sendFile: await file(SENDER), listenFile: await file(LISTENER) });
  }
  return connections;
};

const withClient = async <T>(
  control: Control,
  token: string,
  use: (client: AdminClient) => Promise<T>,
): Promise<T> => {
  const server = await control.createManagementServer({ listen: '127.0.0.1:0', live: NOTHING_LIVE, version });
  try {
    return await use(createAdminClient({ url: server.url, token }));
  } finally {
    await server.close();
  }
};

/**
 * Makes the connections and keys of an installation before any relay runs, over the management API like anybody
 * else, so that each is in the audit trail with its actor. Idempotent.
 * @throws AppError
 */
export const provision = async (options: ProvisionOptions): Promise<Provisioned> => {
  const control = await openControl({
    databaseUrl: options.databaseUrl,
    keyring: options.keyringFile,
    namespace: options.namespace,
    publicPort: options.publicPort,
    node: options.node,
    clock: options.clock,
    logger: silentLogger,
  });
  try {
    const isCode = options.credential === 'code';
    const { id, token } = await control.ensureOwnerToken(isCode ? 'init' : 'owner');
    if (!isCode) writeFileAtomically(options.tokenFile, `${token}\n`);
    const connections = await withClient(control, token, (client) => provisionWith(client, options));
    if (!isCode) return { ownerCredential: token, connections };
    await control.endToken(id);
    const { code } = await control.ensureOwnerCode();
    writeFileAtomically(options.tokenFile, `${code}\n`);
    return { ownerCredential: code, connections };
  } finally {
    await control.close();
  }
};
