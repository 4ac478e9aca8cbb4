import { AppError, cleanText, type CloseReason } from '../../runtime/index.ts';
import type { SessionErrorCode } from './errors.ts';
import { type JsonObject, readJsonObject } from './json-payload.ts';
import type { OpenMeta } from './types.ts';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const MAX_CLAIM = 255;
const MAX_ID = 64;
const MAX_ATTEMPT = 16;
const MAX_DELAY_MS = 3_600_000;

const FRAME_INVALID = 'ERR_SESSION_FRAME_INVALID';

const invalid = (frame: string, field: string): AppError<SessionErrorCode> =>
  new AppError<SessionErrorCode>(FRAME_INVALID, `field ${field} of ${frame} is not valid`);

const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const integerIn = (value: unknown, min: number, max: number): value is number =>
  Number.isInteger(value) && (value as number) >= min && (value as number) <= max;

const encode = (value: object): Buffer => Buffer.from(JSON.stringify(value), 'utf8');

export const encodeOpen = (meta: OpenMeta): Buffer => encode(meta);

/** @throws AppError ERR_SESSION_FRAME_INVALID */
export const decodeOpen = (payload: Buffer): OpenMeta => {
  const { id, attempt, kind, parent, claimed, ext } = readJsonObject(payload, FRAME_INVALID, 'open');
  if (typeof id !== 'string' || !UUID.test(id)) throw invalid('open', 'id');
  if (!integerIn(attempt, 1, MAX_ATTEMPT)) throw invalid('open', 'attempt');
  if (kind !== 'tcp') throw invalid('open', 'kind');
  if (parent !== undefined && (typeof parent !== 'string' || !UUID.test(parent)))
    throw invalid('open', 'parent');
  if (!isObject(claimed)) throw invalid('open', 'claimed');
  if (ext !== undefined && !isObject(ext)) throw invalid('open', 'ext');
  const { address, port, label } = claimed;
  if (address !== undefined && typeof address !== 'string') throw invalid('open', 'claimed.address');
  if (port !== undefined && !integerIn(port, 0, 65_535)) throw invalid('open', 'claimed.port');
  if (label !== undefined && typeof label !== 'string') throw invalid('open', 'claimed.label');
  return {
    id,
    attempt,
    kind,
    ...(parent === undefined ? {} : { parent }),
    claimed: {
      ...(address === undefined ? {} : { address: cleanText(address, MAX_CLAIM) }),
      ...(port === undefined ? {} : { port }),
      ...(label === undefined ? {} : { label: cleanText(label, MAX_CLAIM) }),
    },
    ext: ext ?? {},
  };
};

export const encodeAccept = (decisionId: string): Buffer => encode({ decision_id: decisionId, ext: {} });

/** @throws AppError ERR_SESSION_FRAME_INVALID */
export const decodeAccept = (payload: Buffer): { decision_id: string } => {
  const { decision_id } = readJsonObject(payload, FRAME_INVALID, 'accept');
  if (typeof decision_id !== 'string' || decision_id.length > MAX_ID) throw invalid('accept', 'decision_id');
  return { decision_id: cleanText(decision_id, MAX_ID) };
};

export interface RefuseMessage {
  readonly decision_id?: string;
  readonly retry_after_ms?: number;
  /** In `ext`: the target itself answered the dial, with a refusal. */
  readonly dial_refused?: boolean;
}

export const encodeRefuse = (code: CloseReason, message: RefuseMessage): Buffer =>
  encode({
    code,
    ...(message.decision_id === undefined ? {} : { decision_id: message.decision_id }),
    ...(message.retry_after_ms === undefined ? {} : { retry_after_ms: message.retry_after_ms }),
    ext: message.dial_refused === true ? { dial_refused: true } : {},
  });

/** The reason is the number in the header; the name in the payload is for people who read traces. */
export const decodeRefuse = (payload: Buffer): RefuseMessage => {
  const { decision_id, retry_after_ms, ext } = readJsonObject(payload, FRAME_INVALID, 'refuse');
  if (decision_id !== undefined && (typeof decision_id !== 'string' || decision_id.length > MAX_ID)) {
    throw invalid('refuse', 'decision_id');
  }
  if (retry_after_ms !== undefined && !integerIn(retry_after_ms, 0, MAX_DELAY_MS)) {
    throw invalid('refuse', 'retry_after_ms');
  }
  return {
    ...(decision_id === undefined ? {} : { decision_id: cleanText(decision_id, MAX_ID) }),
    ...(retry_after_ms === undefined ? {} : { retry_after_ms }),
    ...(isObject(ext) && ext['dial_refused'] === true ? { dial_refused: true } : {}),
  };
};

export interface GoAwayMessage {
  readonly code: string;
  readonly deadlineMs: number;
}

export const encodeGoAway = (code: CloseReason, deadlineMs: number): Buffer =>
  encode({ code, deadline_ms: Math.min(Math.max(0, Math.round(deadlineMs)), MAX_DELAY_MS) });

/** @throws AppError ERR_SESSION_FRAME_INVALID */
export const decodeGoAway = (payload: Buffer): GoAwayMessage => {
  const { code, deadline_ms } = readJsonObject(payload, FRAME_INVALID, 'goaway');
  if (typeof code !== 'string' || code.length > MAX_ID) throw invalid('goaway', 'code');
  if (!integerIn(deadline_ms, 0, MAX_DELAY_MS)) throw invalid('goaway', 'deadline_ms');
  return { code: cleanText(code, MAX_ID), deadlineMs: deadline_ms };
};
