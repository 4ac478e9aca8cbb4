import { AppError } from '../runtime/index.ts';
import type { IdentityErrorCode } from './errors.ts';

/** Longest connection string read, in UTF-16 code units. */
export const MAX_CONNECTION_STRING_LENGTH = 4_096;
const MAX_PORT = 65_535;

/** An Azure Relay connection string, taken apart. */
export interface ConnectionString {
  /** Host of the namespace, lower case, without brackets. */
  readonly host: string;
  /** Port of the endpoint; absent when none is written. */
  readonly port?: number;
  /** Name of the auth-rule. */
  readonly keyName: string;
  /** Key text, exactly as written. A secret. */
  readonly key: string;
  /** The connection; absent in a connection string of the namespace. */
  readonly entityPath?: string;
  /** What was accepted and ignored, one sentence each, for the user to see. */
  readonly notes: readonly string[];
}

/** Settings of Azure's clients that mean nothing here (lower case). */
const IGNORED = new Set([
  'operationtimeout',
  'transporttype',
  'transport',
  'runtimeport',
  'managementport',
  'stsendpoint',
  'usedevelopmentemulator',
]);

const refuse = (message: string): AppError<IdentityErrorCode> =>
  new AppError('ERR_IDENTITY_CONNECTION_STRING', `connection string: ${message}`);

/** A name for a message: never more than its first 40 characters, and only if it cannot be a secret. */
const shown = (name: string): string => `"${name.slice(0, 40)}"`;

const fieldsOf = (text: string): Map<string, string> => {
  const fields = new Map<string, string>();
  for (const part of text.split(';')) {
    const piece = part.trim();
    if (piece === '') continue;
    const at = piece.indexOf('=');
    if (at <= 0) throw refuse('a part without "name=value" (is a ";" missing or a value cut?)');
    const name = piece.slice(0, at).trim();
    const lower = name.toLowerCase();
    if (fields.has(lower)) throw refuse(`${shown(name)} is given twice`);
    fields.set(lower, piece.slice(at + 1).trim());
  }
  return fields;
};

const ENDPOINT = /^(?:sb|https?|wss?|amqps?):\/\/(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?\/*$/i;

const endpointOf = (endpoint: string): { host: string; port?: number } => {
  const match = ENDPOINT.exec(endpoint);
  const host = match?.[1];
  if (match === null || host === undefined) throw refuse('Endpoint is not of the form sb://HOST[:PORT]/');
  const plain = host.replace(/^\[|\]$/g, '').toLowerCase();
  if (match[2] === undefined) return { host: plain };
  const port = Number(match[2]);
  if (port < 1 || port > MAX_PORT)
    throw refuse(`port ${String(port)} is not within 1 to ${String(MAX_PORT)}`);
  return { host: plain, port };
};

/**
 * Reads a connection string in Azure's format. Names are case-insensitive, parts in any order, a trailing
 * `;` is fine. Settings of Azure's clients that mean nothing here are accepted with a note.
 * @throws AppError ERR_IDENTITY_CONNECTION_STRING, never quoting the key.
 */
export const parseConnectionString = (text: string): ConnectionString => {
  if (text.length > MAX_CONNECTION_STRING_LENGTH)
    throw refuse(`${text.length} characters, more than the limit of ${MAX_CONNECTION_STRING_LENGTH}`);
  if (!text.isWellFormed() || /[\u0000-\u001f\u007f]/.test(text.trim()))
    throw refuse('it holds control characters or broken Unicode');
  const fields = fieldsOf(text);
  const notes: string[] = [];
  const take = (name: string): string | undefined => {
    const value = fields.get(name.toLowerCase());
    fields.delete(name.toLowerCase());
    return value === '' ? undefined : value;
  };
  const need = (name: string): string => {
    const value = take(name);
    if (value === undefined) throw refuse(`${name} is missing`);
    return value;
  };
  const endpoint = endpointOf(need('Endpoint'));
  if (fields.has('sharedaccesssignature'))
    throw refuse('SharedAccessSignature (a ready token) cannot be renewed; give SharedAccessKeyName and key');
  const keyName = need('SharedAccessKeyName');
  const key = need('SharedAccessKey');
  const entityPath = take('EntityPath')
    ?.replace(/^\/+|\/+$/g, '')
    .toLowerCase();
  for (const name of fields.keys()) {
    if (!IGNORED.has(name)) throw refuse(`unknown name ${shown(name)}`);
    notes.push(`${name} is accepted and ignored`);
  }
  return {
    ...endpoint,
    keyName,
    key,
    ...(entityPath === undefined || entityPath === '' ? {} : { entityPath }),
    notes,
  };
};

/** Writes a connection string in Azure's order and spelling. The result is a secret. */
export const formatConnectionString = (parts: Omit<ConnectionString, 'notes'>): string => {
  const host = parts.host.includes(':') ? `[${parts.host}]` : parts.host;
  const port = parts.port === undefined ? '' : `:${parts.port}`;
  const entity = parts.entityPath === undefined ? '' : `;EntityPath=${parts.entityPath}`;
  return `Endpoint=sb://${host}${port}/;SharedAccessKeyName=${parts.keyName};SharedAccessKey=${parts.key}${entity}`;
};
