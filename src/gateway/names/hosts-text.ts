import { createHash } from 'node:crypto';
import { canonicalAddress } from '../../runtime/index.ts';
import { hostName } from './host-name.ts';

/** An address and the names that lead to it. */
export interface HostsEntry {
  readonly address: string;
  readonly names: readonly string[];
}

/** An entry of a hosts file, with its line, from 1. */
export interface PlacedEntry extends HostsEntry {
  readonly line: number;
}

interface Line {
  /** Without its line end. */
  readonly text: string;
  readonly end: string;
}

/** Where a block stands: indexes of its first and last line. */
interface Place {
  readonly first: number;
  readonly last: number;
}

/** What the text of a hosts file is, as far as one gateway goes. */
export interface HostsText {
  /** Entries that are not in the gateway's own block. */
  readonly others: readonly PlacedEntry[];
  /** Entries of its own block; undefined when it has none. */
  readonly own: readonly HostsEntry[] | undefined;
}

/** Of UTF-8, in Latin-1 characters; some editors begin files with it. */
const BYTE_ORDER_MARK = '\u00ef\u00bb\u00bf';
const DIGEST_DIGITS = 16;
const MARKER = /^# sallyport (?<kind>begin|end) (?<id>\S+)(?: (?<rest>.*))?$/;
const NOTE = '(sallyport hosts remove takes this block away; do not edit it)';

/** Whose block it is, in one word. */
export const blockId = (gateway: { readonly namespace: string; readonly name: string }): string =>
  `${encodeURIComponent(gateway.namespace)}/${gateway.name}`;

const linesOf = (text: string): Line[] =>
  [...text.matchAll(/([^\n]*?)(\r?\n|$)/g)]
    .map(([, line = '', end = '']) => ({ text: line, end }))
    .filter(({ text: line, end }, index, all) => line !== '' || end !== '' || index < all.length - 1);

const digestOf = (lines: readonly string[]): string =>
  createHash('sha256').update(lines.join('\n'), 'latin1').digest('hex').slice(0, DIGEST_DIGITS);

/** A block that is not as it was written; the message has the lines and what to do. */
export class DamagedBlockError extends Error {
  constructor(id: string, first: number, last: number, why: string) {
    const lines = first === last ? `line ${first}` : `lines ${first} to ${last}`;
    super(
      `the block of ${id} (${lines}) is damaged: ${why}; restore it, or delete ${lines} after a look at what else stands there, and apply again`,
    );
    this.name = 'DamagedBlockError';
  }
}

/** @throws DamagedBlockError */
const findBlock = (lines: readonly Line[], id: string): Place | undefined => {
  const markers = lines.flatMap(({ text }, index) => {
    const groups = MARKER.exec(text)?.groups;
    return groups === undefined
      ? []
      : [{ index, kind: groups['kind'], id: groups['id'], rest: groups['rest'] }];
  });
  const own = markers.filter((marker) => marker.id === id);
  const [begin, end] = own;
  if (begin === undefined) return undefined;
  const last = own.at(-1) ?? begin;
  const damaged = (why: string): DamagedBlockError =>
    new DamagedBlockError(id, begin.index + 1, last.index + 1, why);
  if (begin.kind !== 'begin') throw damaged('it has an end without a beginning');
  if (end?.kind !== 'end') throw damaged('it has a beginning without an end');
  if (own.length > 2) throw damaged('it stands there more than once');
  if (markers.some(({ index }) => index > begin.index && index < end.index)) {
    throw damaged('another block begins or ends inside it');
  }
  const body = lines.slice(begin.index + 1, end.index).map(({ text }) => text);
  if (end.rest !== digestOf(body)) throw damaged('its lines are not those that were written');
  return { first: begin.index, last: end.index };
};

const entryOf = (text: string): HostsEntry | undefined => {
  const [address = '', ...names] = text.replace(/#.*$/, '').trim().split(/\s+/);
  if (address === '' || names.length === 0) return undefined;
  return { address: canonicalAddress(address) ?? address, names: names.map(hostName) };
};

/** Every entry of a hosts file, whoever wrote it. */
export const allEntries = (text: string): HostsEntry[] =>
  linesOf(text).flatMap((line) => entryOf(line.text) ?? []);

/**
 * Reads a hosts file; bytes are Latin-1 characters, so that none is lost.
 * @throws DamagedBlockError for the gateway's own block
 */
export const readHostsText = (text: string, id: string): HostsText => {
  const lines = linesOf(text.startsWith(BYTE_ORDER_MARK) ? text.slice(BYTE_ORDER_MARK.length) : text);
  const place = findBlock(lines, id);
  const others: PlacedEntry[] = [];
  const own: HostsEntry[] = [];
  lines.forEach((line, index) => {
    const entry = entryOf(line.text);
    if (entry === undefined) return;
    if (place !== undefined && index > place.first && index < place.last) own.push(entry);
    else others.push({ ...entry, line: index + 1 });
  });
  return { others, own: place === undefined ? undefined : own };
};

/** The lines of a block. */
export const blockLines = (id: string, entries: readonly HostsEntry[]): string[] => {
  const body = entries.map(({ address, names }) => `${address}\t${names.join(' ')}`);
  return [`# sallyport begin ${id} ${NOTE}`, ...body, `# sallyport end ${id} ${digestOf(body)}`];
};

const joined = (lines: readonly Line[]): string => lines.map(({ text, end }) => text + end).join('');

/**
 * The text with the block of these entries, in the place of the one that is there, else at the very beginning: so nothing
 * else moves or changes, a missing newline at the end included, and what others append stands on a line of its own.
 * Without entries the block goes, and the text is again what it was before.
 *
 * @throws DamagedBlockError
 */
export const withBlock = (text: string, id: string, entries: readonly HostsEntry[]): string => {
  const mark = text.startsWith(BYTE_ORDER_MARK) ? BYTE_ORDER_MARK : '';
  const lines = linesOf(text.slice(mark.length));
  const place = findBlock(lines, id);
  const end = /\r?\n/.exec(text)?.[0] ?? '\n';
  const block = entries.length === 0 ? [] : blockLines(id, entries).map((line) => ({ text: line, end }));
  if (place === undefined) return mark + joined([...block, ...lines]);
  return mark + joined([...lines.slice(0, place.first), ...block, ...lines.slice(place.last + 1)]);
};

/**
 * What speaks against these entries: a name that leads elsewhere already, or an address that others use. One sentence
 * each, behind its line.
 */
export const conflictsWith = (others: readonly PlacedEntry[], entries: readonly HostsEntry[]): string[] => {
  const addressesOf = new Map<string, Set<string>>();
  const namesAt = new Map<string, Set<string>>();
  for (const { address, names } of entries) {
    namesAt.set(address, new Set(names));
    for (const name of names) addressesOf.set(name, (addressesOf.get(name) ?? new Set()).add(address));
  }
  return others.flatMap(({ line, address, names }) => {
    const elsewhere = names.filter((name) => addressesOf.get(name)?.has(address) === false);
    const strangers = namesAt.has(address)
      ? names.filter((name) => namesAt.get(address)?.has(name) === false)
      : [];
    return [
      ...elsewhere.map((name) => `${line}: ${name} is ${address} there`),
      ...strangers.map((name) => `${line}: ${address} is there for ${name}`),
    ];
  });
};
