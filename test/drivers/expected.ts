import { createHash } from 'node:crypto';
import { LINES, lineOf, LONG_TEXT_CHARACTERS } from './servers-tds/statements.ts';

// What the programs of several languages must say of the same results.

/** Connections that the programs hold at once. */
export const AT_ONCE = 4;

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

/** 800 rows of `1 1 1 …`, `2 2 2 …`: a thousand times the number and a space; 3 MB. */
export const LARGE_DIGEST = sha256(
  upTo(800)
    .map((id) => `${id} `.repeat(1000))
    .join(''),
);
/** Of the scripted SQL Server. */
export const LINES_DIGEST = sha256(upTo(LINES).map(lineOf).join(''));
export const LONG_DIGEST = sha256('é'.repeat(LONG_TEXT_CHARACTERS));

export const lines = (...all: readonly string[]): string => all.map((line) => `${line}\n`).join('');

/** How the programs are told where and as whom they log in. */
export const accountArgs = (
  { host, port }: { readonly host: string; readonly port: number },
  { user, password, database }: Readonly<Record<'user' | 'password' | 'database', string>>,
  caFile: string,
): string[] => [host, String(port), user, password, database, caFile];

/** What the page of nginx says to three requests on one connection, each with its status. */
export const PAGES = [1, 2, 3].map((count) => `200 request ${count} on this connection`);
