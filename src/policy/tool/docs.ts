import { type ArchiveFiles, readArchive } from '../bundle/archive.ts';
import { type Bundle, type CatalogEntry, readBundle } from '../bundle/bundle.ts';
import { AUTHOR_REASON, type ReasonCode, REASON_CODES } from '../reason-codes.ts';
import { type BundleGrant, grantsOf } from './bundle-grants.ts';
import { ruleSource } from './rule-source.ts';

/** The first line of the page that all others are found from; it tells our pages from others'. */
export const DOCS_MARK = '<!-- written by `sallyport policy docs`; edits are lost -->';
export const DOCS_INDEX = 'README.md';

/** Text of an author as one line of markdown: no markup, no table cell, no html of its own. */
const plain = (text: string): string =>
  text
    .replace(/\s+/g, ' ')
    .trim()
    .replace(/[\\`*_[\]<>|#]/g, (char) => `\\${char}`);

const code = (text: string): string =>
  text.includes('`') ? plain(text) : `\`${text.replace(/\|/g, '\\|')}\``;

const fenced = (text: string, language: string): string => {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([ticks]) => ticks.length));
  const fence = '`'.repeat(longest + 1);
  return `${fence}${language}\n${text}\n${fence}`;
};

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

const DOES: Readonly<Record<CatalogEntry['action'], string>> = {
  publish: 'lets an agent publish',
  stream: 'lets a stream open to',
  deny: 'denies, whatever allows, for',
  limits: 'bounds streams to',
};

const connectionText = (connection: string): string =>
  connection === '*' ? 'every connection' : code(connection);

const page = (...parts: readonly string[]): string => `${parts.join('\n\n')}\n`;

/** One file name for each id, whatever is in it. */
const fileNames = (ids: readonly string[]): ReadonlyMap<string, string> => {
  const taken = new Set<string>();
  return new Map(
    ids.map((id) => {
      const stem = id.replace(/[^A-Za-z0-9._-]/g, '-').replace(/^\.+/, '-');
      let name = stem;
      for (let count = 2; taken.has(name.toLowerCase()); count += 1) name = `${stem}-${String(count)}`;
      taken.add(name.toLowerCase());
      return [id, `${name}.md`];
    }),
  );
};

const rulePage = (bundle: Bundle, files: ArchiveFiles, entry: CatalogEntry): string => {
  const { id, action, connection, title, owner, ticket, expires, file, line } = entry;
  const source = ruleSource(files, entry);
  const limits = Object.entries((source?.custom['limits'] ?? {}) as Record<string, unknown>);
  const shown = bundle.vectors.filter(({ expect }) =>
    action === 'deny' ? expect.reasons?.includes(`policy:${id}`) === true : expect.rule === id,
  );
  const rows = [
    ['what it does', `${DOES[action]} ${connectionText(connection)}`],
    ['id', code(id)],
    ['owner', plain(owner)],
    ['ticket', plain(ticket ?? '-')],
    ['ends', plain(expires ?? '-')],
    ['limits', limits.map(([name, value]) => code(`${name}: ${String(value)}`)).join(', ') || '-'],
    ['where', code(`${file}:${String(line)}`)],
    ...(action === 'deny' ? [['reason code', code(`policy:${id}`)]] : []),
  ];
  return page(
    `# ${plain(title === '' ? id : title)}`,
    ...(source?.description === undefined ? [] : [plain(source.description)]),
    table(['', ''], rows),
    ...(source === undefined ? [] : ['## Conditions', fenced(source.text, 'rego')]),
    '## Vectors that expect it',
    shown.length === 0 ? 'None.' : shown.map(({ name }) => `- ${plain(name)}`).join('\n'),
  );
};

const BY: Readonly<Record<ReasonCode['by'], string>> = {
  library: 'The policy library says it.',
  agent: "The agent's own code says it.",
  author: "An author's rule says it.",
};

const reasonPage = ({ code: name, by, meaning, remedy }: ReasonCode, rules: readonly string[]): string =>
  page(
    `# ${code(name)}`,
    meaning,
    `**What to do.** ${remedy}`,
    BY[by],
    ...(by === 'author' && rules.length > 0 ? [`Of this bundle:\n\n${rules.join('\n')}`] : []),
  );

const grantsPage = (grants: readonly BundleGrant[]): string =>
  page(
    '# Grants',
    'Entitlements as data. Every criterion that is written must hold, beside a live publish rule.',
    table(
      ['connection', 'principal', 'id', 'owner', 'ends', 'criteria and limits'],
      grants.map(({ connection, principal, grant }) => {
        const { id, owner, expires, ...rest } = grant;
        const criteria = Object.entries(rest).filter(([name]) => name !== 'title' && name !== 'ticket');
        const text = criteria.map(([name, value]) => code(`${name}: ${JSON.stringify(value)}`)).join(', ');
        return [code(connection), code(principal), code(id), plain(owner), plain(expires), text];
      }),
    ),
  );

const indexPage = (
  { revision, sequence, sha256, catalog }: Bundle,
  ruleFiles: ReadonlyMap<string, string>,
  reasonFiles: ReadonlyMap<string, string>,
  grants: number,
): string => {
  const rows = catalog.map(({ id, action, connection, title, owner, expires }) => [
    `[${plain(id)}](rules/${ruleFiles.get(id) ?? ''})`,
    plain(title),
    `${action} ${connectionText(connection)}`,
    plain(owner),
    plain(expires ?? '-'),
  ]);
  return page(
    DOCS_MARK,
    `# Policy ${plain(revision)}, sequence ${String(sequence)}`,
    `Bundle ${code(sha256)}.`,
    '## Rules',
    rows.length === 0 ? 'None.' : table(['rule', 'title', 'for', 'owner', 'ends'], rows),
    ...(grants === 0 ? [] : [`[Grants](grants.md): ${String(grants)}.`]),
    '## Reason codes',
    table(
      ['code', 'meaning'],
      REASON_CODES.map(({ code: name, meaning }) => [
        `[${name}](reasons/${reasonFiles.get(name) ?? ''})`,
        meaning,
      ]),
    ),
  );
};

/**
 * Markdown pages of a bundle by relative path: an index, a page per rule and per reason code, and the grants.
 * @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE
 */
export const documentBundle = async (bytes: Buffer): Promise<ReadonlyMap<string, string>> => {
  const bundle = await readBundle(bytes);
  const files = await readArchive(bytes);
  const grants = grantsOf(bundle.dataText);
  const ruleFiles = fileNames(bundle.catalog.map(({ id }) => id));
  const reasonFiles = fileNames(REASON_CODES.map(({ code: name }) => name));
  const pages = new Map<string, string>();
  for (const entry of bundle.catalog) {
    pages.set(`rules/${ruleFiles.get(entry.id) ?? ''}`, rulePage(bundle, files, entry));
  }
  const denials = bundle.catalog
    .filter(({ action }) => action === 'deny')
    .map(
      ({ id, title }) => `- [${plain(`policy:${id}`)}](../rules/${ruleFiles.get(id) ?? ''}): ${plain(title)}`,
    );
  for (const reason of REASON_CODES) {
    const rules = reason.code === AUTHOR_REASON ? denials : [];
    pages.set(`reasons/${reasonFiles.get(reason.code) ?? ''}`, reasonPage(reason, rules));
  }
  if (grants.length > 0) pages.set('grants.md', grantsPage(grants));
  pages.set(DOCS_INDEX, indexPage(bundle, ruleFiles, reasonFiles, grants.length));
  return pages;
};
