import { readFileSync } from 'node:fs';
import { request as httpRequest, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { ProtobufLogsSerializer } from '@opentelemetry/otlp-transformer';
import { type Clock, packageVersion } from '../../runtime/index.ts';
import type { SinkEvent } from './backlog.ts';
import type { Feed, LiveSink } from './feed.ts';
import { OtlpRecords } from './otlp-record.ts';
import type { OtlpSettings } from './sink-settings.ts';
import { tlsOptionsOf } from './tls-files.ts';

const SECOND_MS = 1_000;
/** Canonical bytes of one request. */
const REQUEST_BYTES = 512 * 1024;
const MAX_ANSWER_BYTES = 64 * 1024;
const PROTOBUF = 'application/x-protobuf';
/** Part of an error's answer that is told. */
const MAX_TOLD_LENGTH = 200;
/** Parts of a header's value from this length on are not told. */
const MIN_SECRET_LENGTH = 8;
const OK = { from: 200, to: 300 } as const;
/** What a request is refused with for what is in it; everything else may pass by itself or by another setting. */
const REFUSES_CONTENT: ReadonlySet<number> = new Set([400, 413, 422]);
const HEADER = /^(?<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?<value>[^\r\n]*?)[ \t]*$/;

interface Answer {
  readonly status: number;
  readonly isProtobuf: boolean;
  readonly body: Buffer;
}

/** Lines `Name: value`; empty ones and those that begin with `#` say nothing. @throws Error, and what the disk throws. */
const readHeaders = (path: string | undefined): Record<string, string> => {
  if (path === undefined) return {};
  const headers: Record<string, string> = {};
  for (const [index, line] of readFileSync(path, 'utf8').split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const { name, value } = HEADER.exec(line)?.groups ?? {};
    // The line itself may be a secret.
    if (name === undefined || value === undefined)
      throw new Error(`${path}: line ${index + 1} is not Name: value`);
    headers[name.toLowerCase()] = value;
  }
  return headers;
};

/** OTLP/HTTP: log records as protobuf, one request after the other; what the receiver accepts is confirmed. */
export class OtlpSink implements LiveSink {
  readonly #settings: OtlpSettings;
  readonly #clock: Clock;
  readonly #records: OtlpRecords;

  constructor(settings: OtlpSettings, hostName: string, clock: Clock) {
    this.#settings = settings;
    this.#clock = clock;
    this.#records = new OtlpRecords(hostName);
  }

  async run(feed: Feed, signal: AbortSignal): Promise<void> {
    for (;;) {
      const events = feed.take(REQUEST_BYTES);
      if (events.length === 0) return;
      await this.#send(events, feed, signal);
    }
  }

  /** A request that is refused for its content is halved until the event is found that it is refused for. */
  async #send(events: readonly SinkEvent[], feed: Feed, signal: AbortSignal): Promise<void> {
    const last = events.at(-1);
    if (last === undefined) return;
    const answer = await this.#post(events, signal);
    if (isTaken(answer)) {
      const refused = refusedOf(answer.body);
      feed.confirm(last, refused === 0 ? {} : { refused: Math.min(refused, events.length) });
    } else if (!REFUSES_CONTENT.has(answer.status)) {
      throw this.#refusal(answer);
    } else if (events.length === 1) {
      // A receiver that refuses a request without records as well refuses whatever comes, and the event is not to blame.
      const empty = await this.#post([], signal);
      if (!isTaken(empty)) throw this.#refusal(answer);
      feed.confirm(last, { refused: 1 });
    } else {
      const middle = Math.ceil(events.length / 2);
      await this.#send(events.slice(0, middle), feed, signal);
      await this.#send(events.slice(middle), feed, signal);
    }
  }

  /** A receiver may give back what it was sent, and that may be a token. */
  #refusal({ status, isProtobuf, body }: Answer): Error {
    const secrets = Object.values(readHeaders(this.#settings.headers_file)).flatMap((value) =>
      value.split(/\s+/),
    );
    const text = secrets
      .filter((secret) => secret.length >= MIN_SECRET_LENGTH)
      .reduce(
        (told, secret) => told.replaceAll(secret, '[redacted]'),
        readable(isProtobuf ? statusMessage(body) : body),
      );
    return new Error(
      `the receiver answers ${status}${text === '' ? '' : `: ${text.slice(0, MAX_TOLD_LENGTH)}`}`,
    );
  }

  #post(events: readonly SinkEvent[], signal: AbortSignal): Promise<Answer> {
    const nowMs = this.#clock.nowMs();
    const body = ProtobufLogsSerializer.serializeRequest(
      events.map((event) => this.#records.of(event, nowMs)),
    );
    if (body === undefined) throw new Error('the records could not be written as protobuf');
    const { endpoint, headers_file, timeout_seconds } = this.#settings;
    const options: RequestOptions = {
      method: 'POST',
      headers: {
        'user-agent': `sallyport/${packageVersion}`,
        ...readHeaders(headers_file),
        'content-type': PROTOBUF,
        'content-length': body.length,
      },
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeout_seconds * SECOND_MS)]),
    };
    const url = new URL(endpoint);
    return new Promise((resolve, reject) => {
      const sent =
        url.protocol === 'https:'
          ? httpsRequest(url, { ...options, ...tlsOptionsOf(this.#settings) })
          : httpRequest(url, options);
      sent.on('error', (error) =>
        reject(
          error.name === 'AbortError' && !signal.aborted
            ? new Error(`no answer within ${timeout_seconds} s`)
            : error,
        ),
      );
      sent.on('response', (response) => {
        const parts: Buffer[] = [];
        let bytes = 0;
        response.on('data', (part: Buffer) => {
          bytes += part.length;
          if (bytes <= MAX_ANSWER_BYTES) parts.push(part);
        });
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            isProtobuf: response.headers['content-type']?.startsWith(PROTOBUF) === true,
            body: Buffer.concat(parts),
          }),
        );
      });
      sent.end(body);
    });
  }
}

const isTaken = ({ status }: Answer): boolean => status >= OK.from && status < OK.to;

const refusedOf = (body: Buffer): number => {
  if (body.length === 0) return 0;
  try {
    return ProtobufLogsSerializer.deserializeResponse(body).partialSuccess?.rejectedLogRecords ?? 0;
  } catch {
    // Some receivers answer 200 with text of their own.
    return 0;
  }
};

/** `message` of a google.rpc.Status, with which OTLP receivers say why they refuse: field 2, behind `code`. */
const statusMessage = (body: Buffer): Buffer => {
  const at = body[0] === STATUS_CODE_TAG ? endOfVarint(body, 1) : 0;
  return body[at] === STATUS_MESSAGE_TAG ? body.subarray(endOfVarint(body, at + 1)) : body;
};

const STATUS_CODE_TAG = 0x08;
const STATUS_MESSAGE_TAG = 0x12;
const CONTINUES = 0x80;

const endOfVarint = (body: Buffer, from: number): number => {
  let at = from;
  while (((body[at] ?? 0) & CONTINUES) !== 0) at += 1;
  return at + 1;
};

const readable = (body: Buffer): string =>
  body
    .toString('utf8')
    .replaceAll(/[^\x20-\x7e]+/g, ' ')
    .trim();
