import { cleanText } from '../../runtime/index.ts';

/** Longest text kept in `data`, in UTF-16 code units; the policy input has a limit of its own. */
const MAX_DATA_TEXT = 8 * 1024;
/** Longest canonical policy input kept whole. */
const MAX_INPUT_TEXT = 128 * 1024;
const MAX_NAME_TEXT = 256;
const MAX_ITEMS = 1024;
const MAX_DEPTH = 12;

/** Members whose text is a secret wherever it stands: dropped at the emitter, never hashed, never kept. */
const SECRET_NAMES: ReadonlySet<string> = new Set([
  'authorization',
  'code_secret',
  'connection_string',
  'key',
  'key_text',
  'password',
  'primary_key',
  'private_key',
  'secondary_key',
  'secret',
  'shared_access_key',
  'sig',
  'token',
]);

const SECRET_TEXT = /(SharedAccessKey=|sig=)[^;&\s"]+/gi;

const scrub = (text: string): string =>
  text.includes('SharedAccess') ? text.replace(SECRET_TEXT, '$1[redacted]') : text;

const textOf = (text: string, name: string): string => {
  if (name === 'input') return JSON.stringify(cleanText(text, MAX_INPUT_TEXT));
  return JSON.stringify(scrub(cleanText(text, MAX_DATA_TEXT)));
};

const listOf = (list: readonly unknown[], depth: number): string => {
  const items = list.slice(0, MAX_ITEMS).map((item) => cleanJson(item, '', depth + 1) ?? 'null');
  return `[${items.join(',')}]`;
};

const membersOf = (members: Record<string, unknown>, depth: number): string => {
  const encoded = new Map<string, string>();
  for (const name of Object.keys(members).slice(0, MAX_ITEMS)) {
    const value = members[name];
    if (typeof value === 'string' && SECRET_NAMES.has(name)) continue;
    const text = cleanJson(value, name, depth + 1);
    if (text !== undefined) encoded.set(cleanText(name, MAX_NAME_TEXT), text);
  }
  const names = [...encoded.keys()].sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${encoded.get(name) ?? 'null'}`).join(',')}}`;
};

/**
 * The canonical (RFC 8785) form of whatever an emitter put into an event: total, so that no value can keep
 * an event from being written. Text is made well-formed, NUL-free and bounded; secrets are dropped by name
 * and by shape; what JSON cannot say is left out. `undefined` when nothing is left.
 */
export const cleanJson = (value: unknown, name = '', depth = 0): string | undefined => {
  switch (typeof value) {
    case 'string':
      return textOf(value, name);
    case 'number':
      return Number.isFinite(value) ? JSON.stringify(value) : undefined;
    case 'boolean':
      return value ? 'true' : 'false';
    case 'bigint':
      return JSON.stringify(value.toString());
    case 'object':
      break;
    default:
      return undefined;
  }
  if (value === null) return 'null';
  if (depth >= MAX_DEPTH) return '"[too deep]"';
  if (Array.isArray(value)) return listOf(value, depth);
  if (ArrayBuffer.isView(value)) return JSON.stringify(`[${value.byteLength} bytes]`);
  if (value instanceof Date) {
    return Number.isFinite(value.getTime()) ? JSON.stringify(value.toISOString()) : undefined;
  }
  return membersOf(value as Record<string, unknown>, depth);
};
