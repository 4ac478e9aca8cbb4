import { readFile } from 'node:fs/promises';
import { type SasCredential, sasCredential } from '../identity/index.ts';
import {
  AppError,
  foreignCodeOf,
  holdsCertificate,
  type HostPort,
  type Logger,
  messageOf,
  parseHostPort,
} from '../runtime/index.ts';
import type { AgentConfig } from './config.ts';
import type { AgentErrorCode } from './errors.ts';

export interface AgentCredentials {
  readonly credentials: readonly SasCredential[];
  /** Pinned targets by connection. */
  readonly pins: ReadonlyMap<string, HostPort>;
}

const refuse = (message: string, cause?: unknown): AppError<AgentErrorCode> =>
  new AppError<AgentErrorCode>('ERR_AGENT_CONFIG', message, { cause });

/**
 * The credentials of agent.yaml's connections.
 * @throws AppError ERR_AGENT_CONFIG with every problem at once; no message holds a connection string
 */
export const readCredentials = (config: AgentConfig, logger: Logger): AgentCredentials => {
  const problems: string[] = [];
  const credentials = new Map<string, SasCredential>();
  const pins = new Map<string, HostPort>();
  config.connections.forEach(({ connection_string, target }, index) => {
    try {
      const credential = sasCredential(connection_string);
      if (credential.connection === undefined) throw new Error('its connection string names no EntityPath');
      for (const note of credential.notes) logger.info({ connection: credential.connection }, note);
      if (credentials.has(credential.handle)) throw new Error('the same credential is there twice');
      credentials.set(credential.handle, credential);
      if (target !== undefined) pins.set(credential.connection, parseHostPort(target));
    } catch (error) {
      problems.push(`connections.${index}: ${messageOf(error)}`);
    }
  });
  if (problems.length > 0) throw refuse(problems.join('\n'));
  return { credentials: [...credentials.values()], pins };
};

/** One connection string that was changed: the credential before, and the one that takes over. */
export interface ChangedKey {
  readonly handle: string;
  readonly next: SasCredential;
}

/**
 * What a reload may change of the connections: keys. Undefined when more than that was changed.
 * @throws AppError ERR_AGENT_CONFIG as `readCredentials`
 */
export const changedKeys = (
  old: AgentConfig,
  next: AgentConfig,
  logger: Logger,
): readonly ChangedKey[] | undefined => {
  if (old.connections.length !== next.connections.length) return undefined;
  const { credentials } = readCredentials(next, logger);
  const changes: ChangedKey[] = [];
  for (const [index, { connection_string, target }] of next.connections.entries()) {
    const before = old.connections[index];
    const credential = credentials[index];
    if (before === undefined || credential === undefined || before.target !== target) return undefined;
    if (before.connection_string === connection_string) continue;
    const { handle, connection } = sasCredential(before.connection_string);
    if (connection !== credential.connection) return undefined;
    if (handle !== credential.handle) changes.push({ handle, next: credential });
  }
  return changes;
};

/** The certificates that vouch for the relay; undefined for the system's. @throws AppError ERR_AGENT_CONFIG */
export const readAuthorities = async (file: string | undefined): Promise<string | undefined> => {
  if (file === undefined) return undefined;
  let pem: string;
  try {
    pem = await readFile(file, 'utf8');
  } catch (error) {
    throw refuse(`ca_file ${file} cannot be read: ${foreignCodeOf(error) ?? messageOf(error)}`, error);
  }
  // Node takes any text and then trusts nobody.
  if (!holdsCertificate(pem)) throw refuse(`ca_file ${file} holds no certificate in PEM`);
  return pem;
};
