import type { ProxyFor } from '../carrier/proxy.ts';
import { createHash, type X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import {
  AppError,
  type Clock,
  type Logger,
  makePrivateDirectory,
  messageOf,
  writeFileAtomically,
} from '../../runtime/index.ts';
import { certificateFields, type CertificateFields } from './certificate-fields.ts';
import { type CrlVerdict, readCrl } from './crl.ts';
import { CRL_FETCH_TIMEOUT_MS, fetchCrl, MAX_CRL_BYTES } from './fetch-crl.ts';

/** `off`: no CRL is asked for; `soft`: what cannot be found out is a warning; `hard`: it is a refusal. */
export const REVOCATION_MODES = ['off', 'soft', 'hard'] as const;
export type RevocationMode = (typeof REVOCATION_MODES)[number];

export type RevocationErrorCode = 'ERR_CERTIFICATE_REVOKED' | 'ERR_CERTIFICATE_REVOCATION_UNKNOWN';

/** A stored list is asked for again after this long, although it holds longer: a revocation is then known within it. */
export const CRL_REFRESH_MS = 60 * 60 * 1000;
/** The chain of a standing control link is judged again this often; its lists are asked for when they are old. */
export const RECHECK_MS = 10 * 60 * 1000;
/** After a fetch that failed the stored list, or none, is used this long without asking. */
export const CRL_RETRY_MS = 60 * 1000;
/** Servers whose standing is shown: nodes, and their certificates of before. */
const MAX_SHOWN = 16;
const DIRECTORY = 'crl';

/** What became known of one certificate. */
export interface CertificateStanding {
  readonly subject: string;
  /** Upper-case hex digits. */
  readonly serial: string;
  /** `none`: it names no list. `unknown`: no list that holds could be had. */
  readonly state: 'good' | 'revoked' | 'unknown' | 'none';
  readonly detail: string;
  /** Until when the list holds; undefined without one. */
  readonly nextUpdateMs: number | undefined;
}

export interface ServerRevocationOptions {
  readonly mode: RevocationMode;
  /** Lists are kept below it; undefined: nowhere, as `doctor` does. */
  readonly stateDir: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Default: the environment of the process. */
  readonly proxyEnvironment?: Readonly<Record<string, string | undefined>> | undefined;
  /** The configured ones, in place of those of the environment. */
  readonly proxies?: ProxyFor | undefined;
  /** Told of each judgement. */
  readonly onJudged?: (standing: CertificateStanding) => void;
}

const iso = (ms: number): string => new Date(ms).toISOString();
const oneLine = (name: string): string => name.replaceAll('\n', ', ');

/** Lists as they came, by where they came from; each use checks them anew, so that a changed file does no harm. */
class CrlStore {
  readonly #directory: string | undefined;

  constructor(stateDir: string | undefined) {
    this.#directory = stateDir === undefined ? undefined : join(stateDir, DIRECTORY);
  }

  #file(url: string): string | undefined {
    if (this.#directory === undefined) return undefined;
    return join(this.#directory, `${createHash('sha256').update(url).digest('hex')}.crl`);
  }

  read(url: string): { readonly der: Buffer; readonly storedMs: number } | undefined {
    const file = this.#file(url);
    if (file === undefined || !existsSync(file)) return undefined;
    const { size, mtimeMs } = statSync(file);
    return size > MAX_CRL_BYTES ? undefined : { der: readFileSync(file), storedMs: mtimeMs };
  }

  write(url: string, der: Buffer): void {
    const file = this.#file(url);
    if (file === undefined || this.#directory === undefined) return;
    makePrivateDirectory(this.#directory);
    writeFileAtomically(file, der);
  }
}

/**
 * Asks the certificate revocation lists of the authorities whether a server's certificate, or one between it and the
 * trusted root, has been revoked (docs/adr/0038).
 */
export class ServerRevocation {
  readonly #options: ServerRevocationOptions;
  readonly #store: CrlStore;
  /** When a fetch of a list last failed, and why; monotonic. */
  readonly #failed = new Map<string, { readonly atMs: number; readonly why: string }>();
  /** By the serial number of the server's certificate, the latest last. */
  readonly #judged = new Map<string, readonly CertificateStanding[]>();
  #warned = '';

  constructor(options: ServerRevocationOptions) {
    this.#options = options;
    this.#store = new CrlStore(options.stateDir);
  }

  get mode(): RevocationMode {
    return this.#options.mode;
  }

  /** Of the chains that were judged, each server's own certificate before those of its authorities. */
  get standings(): readonly CertificateStanding[] {
    return [...this.#judged.values()].flat();
  }

  /**
   * Judges a chain that TLS has verified, the server's certificate first, the trusted root last.
   *
   * @throws AppError ERR_CERTIFICATE_REVOKED; ERR_CERTIFICATE_REVOCATION_UNKNOWN in mode `hard`
   */
  async check(chain: readonly X509Certificate[], signal: AbortSignal): Promise<void> {
    if (this.#options.mode === 'off') return;
    const standings = await this.judge(chain, signal);
    this.#remember(standings);
    for (const standing of standings) this.#options.onJudged?.(standing);
    const revoked = standings.find(({ state }) => state === 'revoked');
    if (revoked !== undefined) {
      throw new AppError<RevocationErrorCode>('ERR_CERTIFICATE_REVOKED', revoked.detail);
    }
    const isHard = this.#options.mode === 'hard';
    const unknown = standings.find(({ state }) => state === 'unknown' || (isHard && state === 'none'));
    if (unknown === undefined) {
      this.#warned = '';
      return;
    }
    if (isHard) {
      const message = `${unknown.detail}, and tls.revocation is hard`;
      throw new AppError<RevocationErrorCode>('ERR_CERTIFICATE_REVOCATION_UNKNOWN', message, {
        retryable: true,
      });
    }
    if (this.#warned === unknown.detail) return;
    this.#warned = unknown.detail;
    const told = { subject: unknown.subject, serial: unknown.serial, detail: unknown.detail };
    this.#options.logger.warn(told, 'whether the certificate of the relay is revoked is not known');
  }

  #remember(standings: readonly CertificateStanding[]): void {
    const key = standings[0]?.serial ?? '';
    this.#judged.delete(key);
    this.#judged.set(key, standings);
    for (const oldest of this.#judged.keys()) if (this.#judged.size > MAX_SHOWN) this.#judged.delete(oldest);
  }

  /** What is known of each certificate below the root, whatever the mode. */
  async judge(chain: readonly X509Certificate[], signal: AbortSignal): Promise<CertificateStanding[]> {
    const { clock } = this.#options;
    const late = new AbortController();
    const timer = clock.after(CRL_FETCH_TIMEOUT_MS, () => late.abort());
    try {
      const within = AbortSignal.any([signal, late.signal]);
      return await Promise.all(
        chain.flatMap((certificate, index) => {
          const isRoot = certificate.checkIssued(certificate);
          return isRoot ? [] : [this.#judgeOne(certificate, chain[index + 1], within)];
        }),
      );
    } finally {
      timer.cancel();
    }
  }

  async #judgeOne(
    certificate: X509Certificate,
    issuer: X509Certificate | undefined,
    signal: AbortSignal,
  ): Promise<CertificateStanding> {
    const subject = oneLine(certificate.subject || certificate.subjectAltName || 'without a name');
    const serial = certificate.serialNumber;
    const of = `certificate ${serial} of ${JSON.stringify(subject)}`;
    const standing = (
      state: CertificateStanding['state'],
      detail: string,
      nextUpdateMs?: number,
    ): CertificateStanding => ({ subject, serial, state, detail: `${of} ${detail}`, nextUpdateMs });
    if (issuer === undefined || !certificate.checkIssued(issuer))
      return standing('unknown', 'came without that of its issuer');
    try {
      const fields = certificateFields(certificate);
      if (fields.crlUrls.length === 0) return standing('none', 'names no CRL over http');
      const problems: string[] = [];
      for (const url of fields.crlUrls) {
        const found = await this.#verdict({ certificate, fields, issuer, url, signal });
        if (typeof found === 'string') {
          problems.push(found);
          continue;
        }
        if (found.revoked === undefined)
          return standing('good', `is not on the list of ${url}`, found.nextUpdateMs);
        const by = oneLine(issuer.subject);
        const { atMs, reason } = found.revoked;
        return standing(
          'revoked',
          `was revoked by ${JSON.stringify(by)} at ${iso(atMs)} (${reason})`,
          found.nextUpdateMs,
        );
      }
      return standing('unknown', `may be revoked: ${problems.join('; ')}`);
    } catch (thrown) {
      return standing('unknown', `cannot be read: ${messageOf(thrown)}`);
    }
  }

  /** The verdict of the list at one address, of the stored one while it is young; or why there is none. */
  async #verdict(asked: {
    readonly certificate: X509Certificate;
    readonly fields: CertificateFields;
    readonly issuer: X509Certificate;
    readonly url: string;
    readonly signal: AbortSignal;
  }): Promise<CrlVerdict | string> {
    const { clock, logger, proxyEnvironment, proxies } = this.#options;
    const { url, signal } = asked;
    const nowMs = clock.nowMs();
    const read = (der: Buffer): CrlVerdict | string => {
      try {
        const verdict = readCrl(der, { ...asked, nowMs });
        // Once on a list is enough until a newer one says otherwise; only silence grows old.
        if (verdict.revoked !== undefined || verdict.nextUpdateMs > nowMs) return verdict;
        return `the CRL of ${url} held until ${iso(verdict.nextUpdateMs)} and no newer one is there`;
      } catch (thrown) {
        return `the CRL of ${url} is refused: ${messageOf(thrown)}`;
      }
    };
    const stored = this.#store.read(url);
    const known = stored === undefined ? undefined : read(stored.der);
    const usable = typeof known === 'string' ? undefined : known;
    if (usable !== undefined && stored !== undefined) {
      const ageMs = nowMs - stored.storedMs;
      if (ageMs >= 0 && ageMs < CRL_REFRESH_MS) return usable;
    }
    const failed = this.#failed.get(url);
    if (failed !== undefined && clock.monotonicMs() - failed.atMs < CRL_RETRY_MS) return usable ?? failed.why;
    let why: string;
    try {
      const der = await fetchCrl(url, { clock, signal, proxyEnvironment, proxies });
      const fresh = read(der);
      if (typeof fresh !== 'string') {
        // An older list than the stored one is somebody's who would undo a revocation.
        if (usable !== undefined && fresh.thisUpdateMs < usable.thisUpdateMs) return usable;
        this.#keep(url, der, logger);
        this.#failed.delete(url);
        return fresh;
      }
      why = fresh;
    } catch (thrown) {
      why = typeof known === 'string' ? `${known}; ${messageOf(thrown)}` : messageOf(thrown);
    }
    this.#failed.set(url, { atMs: clock.monotonicMs(), why });
    return usable ?? why;
  }

  #keep(url: string, der: Buffer, logger: Logger): void {
    try {
      this.#store.write(url, der);
    } catch (thrown) {
      logger.warn({ url, err: messageOf(thrown) }, 'a CRL cannot be kept in the state directory');
    }
  }
}

/** What `/status` shows of it. */
export const revocationView = ({ mode, standings }: ServerRevocation): object => ({
  revocation: mode,
  judged: standings.map(({ subject, serial, state, detail, nextUpdateMs }) => ({
    subject,
    serial,
    state,
    detail,
    next_update: nextUpdateMs === undefined ? null : iso(nextUpdateMs),
  })),
});
