import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  blockId,
  blockLines,
  conflictsWith,
  type HostsEntry,
  readHostsText,
  withBlock,
} from '../../../src/gateway/names/hosts-text.ts';

const ID = blockId({ namespace: 'relay.example.com', name: 'gateway-1' });
const OTHER = blockId({ namespace: 'relay.example.com', name: 'gateway-2' });
const ENTRIES: readonly HostsEntry[] = [
  { address: '127.77.1.2', names: ['sql01.corp.example', 'sql01'] },
  { address: '127.77.3.4', names: ['web.corp.example'] },
];
const PLAIN = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost # a comment\n';

test('the block stands first, the fullest name first, and says how it goes away', () => {
  assert.equal(
    withBlock(PLAIN, ID, ENTRIES),
    `# sallyport begin relay.example.com/gateway-1 (sallyport hosts remove takes this block away; do not edit it)
127.77.1.2\tsql01.corp.example sql01
127.77.3.4\tweb.corp.example
# sallyport end relay.example.com/gateway-1 ${blockLines(ID, ENTRIES).at(-1)?.split(' ').at(-1) ?? ''}
${PLAIN}`,
  );
});

const line = fc.oneof(
  fc.constantFrom(
    '127.0.0.1 localhost',
    '# comment',
    '',
    '  ',
    '::1\tlocalhost',
    '10.0.0.1 a b # c',
    '\ufffd',
    '# sallyport',
  ),
  fc.string({ unit: 'binary' }).map((text) =>
    Buffer.from(text)
      .toString('latin1')
      .replace(/[\r\n]/g, ''),
  ),
);
/** Hosts files with either line end, mixed ones, without a last newline, with a byte order mark, as Latin-1 characters. */
const hostsText = fc
  .tuple(
    fc.boolean(),
    fc.array(fc.tuple(line, fc.constantFrom('\n', '\r\n')), { maxLength: 8 }),
    fc.option(line, { nil: '' }),
  )
  .map(([mark, lines, last]) => (mark ? '\u00ef\u00bb\u00bf' : '') + lines.flat().join('') + last)
  .map((text) => text.replace(/[^\u0000-\u00ff]/g, '?'));

test('what apply does, remove undoes byte for byte; apply twice is apply once', () => {
  fc.assert(
    fc.property(hostsText, hostsText, (text, appended) => {
      const applied = withBlock(text, ID, ENTRIES);
      assert.notEqual(applied, text);
      assert.equal(withBlock(applied, ID, ENTRIES), applied);
      assert.equal(withBlock(applied, ID, []), text);
      assert.equal(applied.endsWith(text.slice(3)), true, 'everything else stays where it was');
      const second = withBlock(applied, OTHER, [{ address: '127.77.9.9', names: ['x'] }]);
      assert.equal(withBlock(withBlock(second, ID, []), OTHER, []), text);
      assert.equal(withBlock(withBlock(second, OTHER, []), ID, []), text);
      assert.equal(
        withBlock(applied + appended.replace(/\u00ef\u00bb\u00bf/g, ''), ID, []),
        text + appended.replace(/\u00ef\u00bb\u00bf/g, ''),
      );
    }),
  );
});

test('the line ends are those of the file', () => {
  assert.match(withBlock('127.0.0.1 localhost\r\n', ID, ENTRIES), /^(?:[^\n]*\r\n){5}$/);
  assert.equal(withBlock('127.0.0.1 localhost', ID, ENTRIES).endsWith('\n127.0.0.1 localhost'), true);
});

test('other names take the place of those that were there', () => {
  const applied = `before\n${withBlock('after\n', ID, ENTRIES)}`;
  const changed = withBlock(applied, ID, ENTRIES.slice(1));
  assert.equal(changed.startsWith('before\n# sallyport begin'), true);
  assert.equal(changed.includes('sql01'), false);
  assert.equal(withBlock(changed, ID, []), 'before\nafter\n');
});

test('a block that was edited, cut, doubled or mixed up is refused with its lines', () => {
  const applied = `a\n${withBlock('', ID, ENTRIES)}`;
  const lines = applied.split('\n');
  const without = (index: number): string => lines.filter((_, at) => at !== index).join('\n');
  const inner = withBlock('', OTHER, ENTRIES.slice(0, 1));
  const cases: readonly (readonly [string, string])[] = [
    [
      applied.replace('127.77.1.2', '127.77.1.3'),
      'lines 2 to 5) is damaged: its lines are not those that were written',
    ],
    [
      applied.replace('127.77.3.4', '10.0.0.1 mine\n127.77.3.4'),
      'lines 2 to 6) is damaged: its lines are not',
    ],
    [without(1), 'line 4) is damaged: it has an end without a beginning'],
    [without(4), 'line 2) is damaged: it has a beginning without an end'],
    [applied + applied, 'lines 2 to 10) is damaged: it stands there more than once'],
    [applied.replace('127.77.3.4', `${inner}127.77.3.4`), 'damaged: another block begins or ends inside it'],
  ];
  for (const [text, message] of cases) {
    for (const work of [
      () => withBlock(text, ID, ENTRIES),
      () => withBlock(text, ID, []),
      () => readHostsText(text, ID),
    ]) {
      assert.throws(work, (error: Error) => {
        assert.ok(error.message.includes(message), `${error.message}\nis not\n${message}`);
        assert.match(error.message, /restore it, or delete lines? /);
        return true;
      });
    }
    assert.doesNotThrow(
      () => withBlock(text, 'relay.example.com/gateway-3', ENTRIES),
      'the block of another is its own affair',
    );
  }
  assert.equal(
    withBlock(applied.replaceAll('\n', '\r\n'), ID, []),
    'a\r\n',
    'an editor may change the line ends',
  );
});

test('a name that leads elsewhere and an address of somebody else are found, with their lines', () => {
  const text = `${PLAIN}10.1.2.3 files.corp.example SQL01.corp.example.\n127.77.1.2 sql01\n127.77.3.4 x web.corp.example\n::1 web.corp.example\n`;
  const { others, own } = readHostsText(withBlock(text, ID, ENTRIES), ID);
  assert.deepEqual(own, ENTRIES);
  assert.deepEqual(conflictsWith(others, ENTRIES), [
    '7: sql01.corp.example is 10.1.2.3 there',
    '9: 127.77.3.4 is there for x',
    '10: web.corp.example is ::1 there',
  ]);
});

test('names in the block of another gateway count as others', () => {
  const text = withBlock('', OTHER, [{ address: '127.77.8.8', names: ['sql01.corp.example'] }]);
  assert.deepEqual(conflictsWith(readHostsText(text, ID).others, ENTRIES), [
    '2: sql01.corp.example is 127.77.8.8 there',
  ]);
  const same = withBlock('', OTHER, [{ address: '127.77.1.2', names: ['sql01.corp.example'] }]);
  assert.deepEqual(
    conflictsWith(readHostsText(same, ID).others, ENTRIES),
    [],
    'two gateways may serve ports of one host',
  );
});

test('the id of a block is one word, whatever the namespace', () => {
  const id = blockId({ namespace: 'a b\nc', name: 'g' });
  assert.equal(withBlock(withBlock(PLAIN, id, ENTRIES), id, []), PLAIN);
});
