import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { AuditReader, NAMED_QUERIES, type NamedQuery, standaloneSql } from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { auditDatabase } from './audit-fixture.ts';

const page = readFileSync(new URL('../../docs/audit-queries.md', import.meta.url), 'utf8');
const sections = new Map(
  page
    .split(/^## /m)
    .slice(1)
    .map((text) => [text.slice(0, text.indexOf('\n')), text] as const),
);
/** Sections of the page that are no question. */
const OTHERS = [
  'Columns that mean the same everywhere',
  'Time and partitions',
  'Other sites',
  'What it costs',
];

let server: TestPostgres;
let reader: AuditReader;

before(async () => {
  server = await startPostgres();
  reader = await AuditReader.connect((await auditDatabase(server)).owner);
});
after(async () => {
  await reader.close();
  await server.stop();
});

const blocksOf = (section: string, language: string): readonly string[] =>
  [...section.matchAll(/^```(\w*)\n([\s\S]*?)\n```$/gm)]
    .filter(([, name]) => name === language)
    .map(([, , text]) => text ?? '');

/** Columns that the first table of a section explains. */
const explainedIn = (section: string): readonly string[] =>
  [...section.slice(section.indexOf('| column |')).matchAll(/^\| (`[^|]*`) \|/gm)]
    .flatMap(([, cell]) => (cell ?? '').split(' '))
    .map((name) => name.replaceAll('`', ''))
    .filter((name) => /^[a-z0-9_]+$/.test(name));

const givenOf = (command: string): Record<string, string> =>
  Object.fromEntries(
    command
      .split(' ')
      .slice(4)
      .map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]),
  );

test('the page has the questions of the program, in their order, and nothing else', () => {
  assert.deepEqual(
    [...sections.keys()].filter((name) => !OTHERS.includes(name)),
    NAMED_QUERIES.map(({ name }) => name),
  );
});

const common = explainedIn(sections.get(OTHERS[0]!) ?? '');
const used = new Set<string>();

const checkSection = async (query: NamedQuery): Promise<void> => {
  const section = sections.get(query.name) ?? '';
  assert.ok(section.includes(query.question), 'asks the question in its words');
  const [command = '', answer = ''] = blocksOf(section, '');
  assert.ok(
    command === `sallyport audit query ${query.name}` ||
      command.startsWith(`sallyport audit query ${query.name} `),
  );
  const sql = `${standaloneSql(query, givenOf(command), systemClock)};`;
  assert.deepEqual(blocksOf(section, 'sql'), [sql]);
  const { columns } = await reader.query(sql);
  assert.deepEqual(
    answer.split('\n')[0]?.trim().split(/ +/),
    columns.map((name) => name.toUpperCase()),
  );
  const own = explainedIn(section).filter(
    (name) =>
      columns.includes(name) || !/^(mismatch|other_side_\w+|cut_short|agent_behind|pending)$/.test(name),
  );
  for (const name of own)
    assert.ok(columns.includes(name), `explains ${name}, which the answer does not have`);
  for (const name of columns) {
    if (own.includes(name)) continue;
    assert.ok(common.includes(name), `does not explain ${name}`);
    used.add(name);
  }
};

for (const query of NAMED_QUERIES) {
  test(`the page and the program agree on ${query.name}: command, SQL, columns, example`, () =>
    checkSection(query));
}

test('columns that mean the same everywhere are those that some question needs', () => {
  assert.deepEqual(
    common.filter((name) => !used.has(name)),
    [],
  );
});
