import { cleanText } from '../../runtime/index.ts';
import { canonicalJson } from './canonical.ts';
import { cleanJson } from './clean.ts';
import type { AuditEventInput, Origin } from './event.ts';
import { DATA_FIELDS, fitField, SUBJECT_FIELDS, type FieldKind } from './field.ts';

/** Version of the envelope, `v` in the canonical bytes and `schema_version` in the table. */
export const EVENT_VERSION = 1;
/** Longest canonical text of an event, in UTF-16 code units; beyond it `data` is cut to its short scalars. */
export const MAX_EVENT_TEXT = 256 * 1024;
const MAX_UNFIT_TEXT = 256;
const MAX_OVERSIZE_SCALAR = 1024;

/** First and last instants that the table's timestamps and RFC 3339 both express. */
const MIN_AT_MS = Date.UTC(2000, 0, 1);
const MAX_AT_MS = Date.UTC(9999, 0, 1);

type Members = Record<string, unknown>;

const isMembers = (value: unknown): value is Members =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isTexts = (value: unknown): boolean =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');

/** Shapes of the members of `data` that fill several columns or an array column. */
const COMPOSITE_FIELDS: Readonly<Record<string, (value: unknown) => boolean>> = {
  rules: (value) => isMembers(value) && isTexts(value.publish ?? []) && isTexts(value.stream ?? []),
  reasons: (value) =>
    Array.isArray(value) && value.every((item) => isMembers(item) && typeof item.code === 'string'),
  bundle: (value) =>
    isMembers(value) &&
    typeof (value.sha256 ?? '') === 'string' &&
    typeof (value.revision ?? '') === 'string' &&
    (value.sequence === undefined || fitField('bigint', value.sequence) !== undefined),
};

/** What did not fit its column: kept under `unfit`, so that the column is null and the evidence whole. */
type Unfit = Map<string, string>;

const setAside = (unfit: Unfit, name: string, value: unknown): void => {
  const text = typeof value === 'string' ? value : (cleanJson(value) ?? typeof value);
  unfit.set(name, cleanText(text, MAX_UNFIT_TEXT));
};

const MAX_KNOWN_TEXTS = 4_096;
const MAX_KNOWN_LENGTH = 256;
/** JSON of texts and addresses that subjects repeat: names, keys, hosts. */
const knownTexts = new Map<string, string>();

/** The JSON of a fitting value; `undefined` when it does not fit. */
const subjectFieldText = (kind: FieldKind, value: unknown): string | undefined => {
  if (kind !== 'text' || typeof value !== 'string' || value.length > MAX_KNOWN_LENGTH) {
    const fitting = fitField(kind, value);
    return fitting === undefined ? undefined : JSON.stringify(fitting);
  }
  const known = knownTexts.get(value);
  if (known !== undefined) return known;
  const text = JSON.stringify(fitField(kind, value));
  if (knownTexts.size >= MAX_KNOWN_TEXTS) knownTexts.clear();
  knownTexts.set(value, text);
  return text;
};

const subjectText = (subject: Members, unfit: Unfit): string => {
  const parts: string[] = [];
  for (const [name, kind] of Object.entries(SUBJECT_FIELDS)) {
    const value = subject[name];
    if (value === undefined || value === null) continue;
    const text = subjectFieldText(kind, value);
    if (text === undefined) setAside(unfit, name, value);
    else parts.push(`"${name}":${text}`);
  }
  return `{${parts.join(',')}}`;
};

const dataText = (data: Members, unfit: Unfit): string => {
  const encoded: unknown = data;
  if (Object.prototype.toString.call(encoded) !== '[object Object]') {
    setAside(unfit, 'data', encoded);
    return '{}';
  }
  let rest = data;
  const drop = (name: string): void => {
    setAside(unfit, `data.${name}`, data[name]);
    rest = { ...rest, [name]: undefined };
  };
  for (const [name, kind] of Object.entries(DATA_FIELDS) as [string, FieldKind][]) {
    const value = data[name];
    if (value !== undefined && value !== null && fitField(kind, value) === undefined) drop(name);
  }
  for (const [name, fits] of Object.entries(COMPOSITE_FIELDS)) {
    if (data[name] !== undefined && !fits(data[name])) drop(name);
  }
  return cleanJson(rest) ?? '{}';
};

const shortScalarsOf = (data: Members): Members =>
  Object.fromEntries(
    Object.entries(data).filter(
      ([, value]) =>
        typeof value === 'number' ||
        typeof value === 'boolean' ||
        (typeof value === 'string' && value.length <= MAX_OVERSIZE_SCALAR),
    ),
  );

/** What the encoder knows besides the event. */
export interface EnvelopeContext {
  readonly chain: string;
  /** Canonical text of the origin, made once by `originText`. */
  readonly origin: string;
  /** The origin's wall clock time of day at an instant, RFC 3339 without offset; absent without a zone. */
  readonly localAt?: ((atMs: number) => string) | undefined;
}

/** The canonical text of an origin, cleaned. */
export const originText = (origin: Origin): string => canonicalJson(JSON.parse(cleanJson(origin) ?? '{}'));

const unfitText = (unfit: Unfit): string => {
  if (unfit.size === 0) return '';
  const parts = [...unfit.keys()].sort().map((name) => `"${name}":${JSON.stringify(unfit.get(name))}`);
  return `"unfit":{${parts.join(',')}},`;
};

/**
 * The canonical text of one event; UTF-8 of it is what is hashed, stored and verified. Total: an event that
 * cannot be read at all becomes one whose `data` says so.
 */
export const eventText = (
  input: AuditEventInput,
  id: string,
  recordedMs: number,
  context: EnvelopeContext,
): string => {
  const unfit: Unfit = new Map();
  const given: unknown = input.at_ms ?? recordedMs;
  const isInstant = typeof given === 'number' && given >= MIN_AT_MS && given < MAX_AT_MS;
  if (!isInstant) setAside(unfit, 'at', given);
  const atMs = Math.floor(isInstant ? given : recordedMs);
  let subject = '{}';
  let data: string;
  try {
    subject = subjectText(input.subject, unfit);
    data = dataText(input.data, unfit);
    if (data.length > MAX_EVENT_TEXT) {
      data = cleanJson({ ...shortScalarsOf(input.data), oversize_chars: data.length }) ?? '{}';
    }
  } catch {
    // A getter or a proxy of the emitter threw: the event is still recorded, with what was read so far.
    data = '{"unreadable":true}';
  }
  const local = context.localAt === undefined ? '' : `"local":"${context.localAt(atMs)}",`;
  return `{"at":"${new Date(atMs).toISOString()}","chain":"${context.chain}","data":${data},"id":"${id}",${local}"origin":${context.origin},"subject":${subject},"type":${JSON.stringify(cleanText(input.type))},${unfitText(unfit)}"v":${EVENT_VERSION}}`;
};
