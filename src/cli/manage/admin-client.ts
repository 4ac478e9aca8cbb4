import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { AppError, environment, foreignCodeOf, messageOf } from '../../runtime/index.ts';
import { findRunningUp } from '../ready-file.ts';
import type { ManageErrorCode } from './errors.ts';
import { exchangedToken } from './owner-code.ts';

/** Longest wait for an answer; a revocation waits 2 s for nodes. */
const ANSWER_WITHIN_MS = 15_000;
/** Most pages of a list that are followed. */
const MAX_PAGES = 10_000;
const PAGE = 200;
/** The largest page of what is asked live (logins, links, streams): each page asks anew. */
export const LIVE_PAGE = 1_000;
/** What can stand in a header at all. */
const TOKEN_FORM = /^[!-~]{1,512}$/;

/** Where the management API is and the token for it. */
export interface AdminAccess {
  readonly url: string;
  /** A token or a one-time code; a secret. */
  readonly token: string;
  /** Where it was read from. */
  readonly tokenFile?: string | undefined;
}

type Query = Readonly<Record<string, string | number | undefined>>;

/** The management API by fetch. Every method throws AppError ERR_MANAGE_… */
export interface AdminClient {
  readonly url: string;
  get<Answer = unknown>(path: string, query?: Query): Promise<Answer>;
  post<Answer = unknown>(path: string, body?: object, ifMatch?: number): Promise<Answer>;
  patch<Answer = unknown>(path: string, body: object, ifMatch?: number): Promise<Answer>;
  delete<Answer = unknown>(path: string, ifMatch?: number): Promise<Answer>;
  /** Every item of a list, over all its pages; of 200, or of the query's own `limit`. */
  list<Item = unknown>(path: string, query?: Query): Promise<Item[]>;
}

const usage = (message: string): AppError<ManageErrorCode> => new AppError('ERR_MANAGE_USAGE', message);

const readToken = (file: string): string => {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    const why = foreignCodeOf(error) ?? messageOf(error);
    throw new AppError<ManageErrorCode>('ERR_MANAGE_USAGE', `cannot read the token file ${file}: ${why}`, {
      cause: error,
    });
  }
};

export interface AdminOptions {
  readonly admin?: string;
  readonly tokenFile?: string;
  readonly state?: string;
}

const setting = (name: string): string | undefined => {
  const value = environment[name];
  return value === undefined || value === '' ? undefined : value;
};

/** Adds the options that say where the management API is. */
export const adminOptions = (command: Command): Command =>
  command
    .option('--admin <url>', 'management API; default: SALLYPORT_ADMIN_URL, else the running `up`')
    .option('--token-file <file>', 'its token; default: SALLYPORT_ADMIN_TOKEN_FILE, SALLYPORT_ADMIN_TOKEN')
    .option('--state <dir>', 'state of a running `up` (default: ./.sallyport)');

/** Options, then environment, then a running `up`. @throws AppError ERR_MANAGE_USAGE */
export const findAdminAccess = (options: AdminOptions): AdminAccess => {
  const url = options.admin ?? setting('SALLYPORT_ADMIN_URL');
  const tokenFile = options.tokenFile ?? setting('SALLYPORT_ADMIN_TOKEN_FILE');
  const given = tokenFile === undefined ? setting('SALLYPORT_ADMIN_TOKEN') : readToken(tokenFile);
  const up = url === undefined || given === undefined ? findRunningUp(options.state) : undefined;
  const found = url ?? up?.relay.admin_url;
  if (found === undefined)
    throw usage(
      'where is the management API? give --admin URL (or SALLYPORT_ADMIN_URL), or --state of a running `up`',
    );
  if (!URL.canParse(found) || !/^https?:$/.test(new URL(found).protocol))
    throw usage(`--admin ${JSON.stringify(found)} is not an http or https URL`);
  // The token of a local `up` goes to that `up` only, never to a URL that was given.
  const upFile = url === undefined ? up?.admin_token_file : undefined;
  const token = given ?? (upFile === undefined ? undefined : readToken(upFile));
  if (token === undefined || token === '')
    throw usage('which management token? give --token-file FILE (or SALLYPORT_ADMIN_TOKEN_FILE)');
  // Refused here, because fetch would quote a header that it refuses, and so show the secret.
  if (!TOKEN_FORM.test(token)) throw usage('what was given as management token has not the form of one');
  return { url: found.replace(/\/+$/, ''), token, tokenFile: given === undefined ? upFile : tokenFile };
};

interface ProblemBody {
  readonly code?: string;
  readonly detail?: string;
}

const codeOfStatus = (status: number): ManageErrorCode => {
  if (status === 503) return 'ERR_MANAGE_UNAVAILABLE';
  return status === 400 || status === 413 || status === 415 ? 'ERR_MANAGE_INVALID' : 'ERR_MANAGE_REFUSED';
};

const problemOf = async (response: Response): Promise<AppError<ManageErrorCode>> => {
  let body: ProblemBody = {};
  try {
    body = (await response.json()) as ProblemBody;
  } catch (error) {
    const why = `no problem document (${messageOf(error)}); is this a management API?`;
    return new AppError(codeOfStatus(response.status), `HTTP ${response.status}, ${why}`, { cause: error });
  }
  // The relay answers, something behind it does not: then it matters which relay.
  const from = response.status === 503 ? `management API at ${new URL(response.url).origin}: ` : '';
  return new AppError(
    codeOfStatus(response.status),
    `${from}${body.detail ?? 'refused'} (${response.status} ${body.code ?? 'unknown'})`,
    { retryable: response.status === 503 },
  );
};

/** Why fetch failed: its own message says only "fetch failed". */
const networkCause = (error: unknown): string => {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  return foreignCodeOf(cause) ?? messageOf(cause);
};

export const createAdminClient = (access: AdminAccess): AdminClient => {
  let exchanged: Promise<string> | undefined;
  const tokenOf = (): Promise<string> =>
    (exchanged ??= exchangedToken(access.token, {
      tokenFile: access.tokenFile,
      ask: (code) => askAs(code, 'POST', '/tokens/exchange', {}, {}),
    }));
  const ask = async <Answer>(
    method: string,
    path: string,
    query?: Query,
    body?: object,
    ifMatch?: number,
  ): Promise<Answer> => askAs(await tokenOf(), method, path, query, body, ifMatch);
  const askAs = async <Answer>(
    token: string,
    method: string,
    path: string,
    query: Query = {},
    body?: object,
    ifMatch?: number,
  ): Promise<Answer> => {
    const url = new URL(`${access.url}/api/v1${path}`);
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) url.searchParams.set(name, String(value));
    const headers: Record<string, string> = { Authorization: `Bearer ${token}` };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    if (ifMatch !== undefined) headers['If-Match'] = `"${ifMatch}"`;
    let response: Response;
    try {
      response = await fetch(url, {
        method,
        headers,
        redirect: 'error',
        signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (error) {
      const message = `management API at ${access.url} does not answer: ${networkCause(error)}`;
      throw new AppError<ManageErrorCode>('ERR_MANAGE_UNAVAILABLE', message, {
        retryable: true,
        cause: error,
      });
    }
    if (!response.ok) throw await problemOf(response);
    return (await response.json()) as Answer;
  };
  return {
    url: access.url,
    get: (path, query) => ask('GET', path, query),
    post: (path, body = {}, ifMatch) => ask('POST', path, {}, body, ifMatch),
    patch: (path, body, ifMatch) => ask('PATCH', path, {}, body, ifMatch),
    delete: (path, ifMatch) => ask('DELETE', path, {}, undefined, ifMatch),
    async list<Item>(path: string, query: Query = {}) {
      const items: Item[] = [];
      let cursor: string | undefined;
      for (let pages = 0; pages < MAX_PAGES; pages += 1) {
        const page = await ask<{ items: Item[]; next?: string | null }>('GET', path, {
          limit: PAGE,
          ...query,
          cursor,
        });
        items.push(...page.items);
        if (page.next === undefined || page.next === null) return items;
        cursor = page.next;
      }
      throw new AppError<ManageErrorCode>('ERR_MANAGE_REFUSED', `more than ${MAX_PAGES * PAGE} items`);
    },
  };
};

/** The client that some options, the environment or a running `up` name. @throws AppError ERR_MANAGE_USAGE */
export const openAdminClient = (options: AdminOptions): AdminClient =>
  createAdminClient(findAdminAccess(options));

/** The client of a command. @throws AppError ERR_MANAGE_USAGE */
export const adminClientOf = (command: Command): AdminClient =>
  openAdminClient(command.optsWithGlobals<AdminOptions>());
