import type { IncomingMessage } from 'node:http';
import { AppError, cleanText, type Clock } from '../runtime/index.ts';
import type { AgentErrorCode } from './errors.ts';
import { askService, type ServiceRequest } from './service-http.ts';

/** Largest bundle; the archive reader has the same limit. */
export const MAX_BUNDLE_BYTES = 64 * 1024 * 1024;
/** A server that sends nothing for this long, beyond what a long poll lets it hold, is given up. */
const SILENCE_LIMIT_MS = 30_000;
/** From the request to the last byte, beyond a long poll: 64 MiB at 5 Mbit/s. */
const TOTAL_LIMIT_MS = 120_000;
const MAX_ETAG_CHARS = 1_024;
/** A server that answers so will hold its next answer until something changes (OPA, bundle API). */
const LONG_POLL_TYPE = 'application/vnd.openpolicyagent.bundles';
const OK = 200;
const NOT_MODIFIED = 304;

export interface BundleRequest extends ServiceRequest {
  /** Of the bundle that is there already. */
  readonly etag: string | undefined;
  /** How long the server may hold its answer, seconds; undefined: not at all. */
  readonly waitSeconds: number | undefined;
  /** For tests that do not wait for the real ones. */
  readonly silenceLimitMs?: number;
  readonly totalLimitMs?: number;
}

export interface BundleAnswer {
  /** Undefined: what is there already is still right. */
  readonly bytes: Buffer | undefined;
  readonly etag: string | undefined;
  /** The server holds its answers. */
  readonly holds: boolean;
}

const CODE = 'ERR_AGENT_BUNDLE_SOURCE' satisfies AgentErrorCode;

/** The status of an answer that was neither a bundle nor "unchanged", as the cause of the failure. */
export class UnwantedStatus extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`status ${String(status)}`);
    this.status = status;
  }
}

const failed = (what: string, cause?: unknown): AppError<AgentErrorCode> =>
  new AppError(CODE, what, { cause });

const headersOf = ({ etag, waitSeconds }: BundleRequest): Record<string, string> => ({
  // Snapshots only; no coding, so that the bytes are bounded by what is read.
  prefer: waitSeconds === undefined ? 'modes=snapshot' : `modes=snapshot;wait=${String(waitSeconds)}`,
  accept: `application/gzip, application/octet-stream, ${LONG_POLL_TYPE}`,
  'accept-encoding': 'identity',
  ...(etag === undefined ? {} : { 'if-none-match': etag }),
});

const readBody = async (response: IncomingMessage): Promise<Buffer> => {
  const said = Number(response.headers['content-length'] ?? 0);
  if (said > MAX_BUNDLE_BYTES) {
    throw failed(`the bundle has ${String(said)} bytes, the limit is ${String(MAX_BUNDLE_BYTES)}`);
  }
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > MAX_BUNDLE_BYTES) throw failed(`the bundle is over ${String(MAX_BUNDLE_BYTES)} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts, length);
};

const answerOf = async (request: BundleRequest, response: IncomingMessage): Promise<BundleAnswer> => {
  const { statusCode: status = 0, headers } = response;
  const holds =
    request.waitSeconds !== undefined && headers['content-type']?.split(';')[0]?.trim() === LONG_POLL_TYPE;
  if (status === NOT_MODIFIED) {
    if (request.etag === undefined)
      throw failed('the server says that nothing changed, and was not asked that');
    return { bytes: undefined, etag: request.etag, holds };
  }
  if (status !== OK) {
    const where = headers.location === undefined ? '' : ', which leads elsewhere and is not followed';
    throw failed(`the server answers ${String(status)}${where}`, new UnwantedStatus(status));
  }
  const coding = headers['content-encoding'] ?? 'identity';
  if (coding !== 'identity') throw failed(`the server sends content-encoding ${cleanText(coding)}, unasked`);
  const { etag } = headers;
  if (etag !== undefined && etag.length > MAX_ETAG_CHARS) {
    throw failed(
      `the server's etag has ${String(etag.length)} characters, the limit is ${String(MAX_ETAG_CHARS)}`,
    );
  }
  return { bytes: await readBody(response), etag, holds };
};

/**
 * Asks a bundle server once. No redirect is followed, no coding is undone, and no more than 64 MiB are read.
 * @throws AppError ERR_AGENT_BUNDLE_SOURCE for every answer that is neither a bundle nor "unchanged"
 */
export const fetchBundle = (request: BundleRequest, clock: Clock): Promise<BundleAnswer> => {
  const waitMs = (request.waitSeconds ?? 0) * 1_000;
  return askService(
    request,
    {
      method: 'GET',
      headers: headersOf(request),
      silenceMs: (request.silenceLimitMs ?? SILENCE_LIMIT_MS) + waitMs,
      totalMs: (request.totalLimitMs ?? TOTAL_LIMIT_MS) + waitMs,
      code: CODE,
      read: (response) => answerOf(request, response),
    },
    clock,
  );
};
