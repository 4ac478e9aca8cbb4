import { readFile } from 'node:fs/promises';
import { request as plainRequest } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { type Clock, sleep } from '../../runtime/index.ts';
import type { Place } from './place.ts';

export interface UrlLimits {
  /** From the request to the status of its answer, once. */
  readonly answerMs: number;
  /** Before each further try; the next checkpoint tries again after that. */
  readonly pausesMs: readonly number[];
}

const LIMITS: UrlLimits = { answerMs: 10_000, pausesMs: [1_000, 3_000] };
const HTTP = { okFrom: 200, okTo: 299, timeout: 408, tooMany: 429, clientFrom: 400, clientTo: 499 } as const;

/** A server that takes checkpoints. The files are read at each request. */
export interface CheckpointService {
  readonly url: string;
  readonly tokenFile?: string | undefined;
  readonly caFile?: string | undefined;
  readonly clientCertFile?: string | undefined;
  readonly clientKeyFile?: string | undefined;
}

/** The server will say the same again. */
class Refused extends Error {}

const readText = async (file: string | undefined): Promise<string | undefined> =>
  file === undefined ? undefined : (await readFile(file, 'utf8')).trim();

const isTaken = (status: number): boolean => status >= HTTP.okFrom && status <= HTTP.okTo;

const isFinal = (status: number): boolean =>
  status >= HTTP.clientFrom && status <= HTTP.clientTo && status !== HTTP.timeout && status !== HTTP.tooMany;

/** Posts checkpoints. No redirect is followed, and of an answer only the status is read. */
export class UrlPlace implements Place {
  readonly name = 'url';
  readonly #service: CheckpointService;
  readonly #clock: Clock;
  readonly #limits: UrlLimits;

  constructor(service: CheckpointService, clock: Clock, limits = LIMITS) {
    this.#service = service;
    this.#clock = clock;
    this.#limits = limits;
  }

  async take(line: string, signal: AbortSignal): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        await this.#post(line, signal);
        return;
      } catch (thrown) {
        const pauseMs = this.#limits.pausesMs[attempt];
        if (pauseMs === undefined || thrown instanceof Refused || signal.aborted) throw thrown;
        await sleep(this.#clock, pauseMs, signal);
      }
    }
  }

  async #post(line: string, signal: AbortSignal): Promise<void> {
    const { url: address, tokenFile, caFile, clientCertFile, clientKeyFile } = this.#service;
    const [token, ca, cert, key] = await Promise.all(
      [tokenFile, caFile, clientCertFile, clientKeyFile].map(readText),
    );
    const url = new URL(address);
    const late = new AbortController();
    const limit = this.#clock.after(this.#limits.answerMs, () =>
      late.abort(new Error(`no answer within ${this.#limits.answerMs} ms`)),
    );
    try {
      const status = await new Promise<number>((resolve, reject) => {
        const start = url.protocol === 'http:' ? plainRequest : tlsRequest;
        const sent = start(
          url,
          {
            method: 'POST',
            // A connection of its own each time: the next request is minutes away.
            agent: false,
            minVersion: 'TLSv1.2',
            signal: AbortSignal.any([signal, late.signal]),
            headers: {
              'content-type': 'application/json',
              'content-length': Buffer.byteLength(line),
              'user-agent': 'sallyport',
              ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
            },
            ...(ca === undefined ? {} : { ca }),
            ...(cert === undefined || key === undefined ? {} : { cert, key }),
          },
          (response) => {
            resolve(response.statusCode ?? 0);
            response.destroy();
          },
        );
        // Also after the answer, when the connection is torn down.
        sent.on('error', reject);
        sent.end(line);
      });
      if (isTaken(status)) return;
      const text = `the server answers ${status}`;
      throw isFinal(status) ? new Refused(text) : new Error(text);
    } catch (thrown) {
      throw late.signal.aborted ? (late.signal.reason as Error) : thrown;
    } finally {
      limit.cancel();
    }
  }
}
