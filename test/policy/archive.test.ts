import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { ARCHIVE_LIMIT, readArchive, writeArchive } from '../../src/policy/bundle/archive.ts';
import { readBundle } from '../../src/policy/bundle/bundle.ts';
import { isAppError } from '../../src/runtime/index.ts';

const BLOCK = 512;

interface RawEntry {
  readonly name: string;
  readonly content?: string;
  readonly type?: string;
  readonly link?: string;
  readonly size?: number;
  readonly prefix?: string;
}

/** One tar entry exactly as an attacker would write it. */
const entry = ({ name, content = '', type = '0', link = '', size, prefix = '' }: RawEntry): Buffer => {
  const body = Buffer.from(content);
  const header = Buffer.alloc(BLOCK);
  header.write(name, 0, 'latin1');
  header.write('0000644\0', 100);
  header.write(`${(size ?? body.length).toString(8).padStart(11, '0')}\0`, 124);
  header.write(type, 156);
  header.write(link, 157);
  header.write('ustar\x0000', 257, 'latin1');
  header.write(prefix, 345);
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, body, Buffer.alloc((BLOCK - (body.length % BLOCK)) % BLOCK)]);
};

const archive = (...entries: readonly RawEntry[]): Buffer =>
  gzipSync(Buffer.concat([...entries.map(entry), Buffer.alloc(2 * BLOCK)]));

const attacks: Readonly<Record<string, Buffer>> = {
  'a symbolic link': archive({ name: 'data.json', type: '2', link: '/etc/passwd' }),
  'a hard link': archive({ name: 'data.json', type: '1', link: 'policy.wasm' }),
  'a device': archive({ name: 'data.json', type: '3' }),
  'a directory': archive({ name: 'sallyport/', type: '5' }),
  'a pax header': archive({ name: 'x', type: 'x', content: '20 path=/etc/passwd\n' }),
  'a gnu long name': archive({ name: '././@LongLink', type: 'L', content: 'x'.repeat(200) }),
  'a repeated name': archive({ name: 'data.json', content: '{}' }, { name: 'data.json', content: '{"a":1}' }),
  'a name repeated in other case': archive({ name: 'data.json' }, { name: 'DATA.json' }),
  'an absolute name': archive({ name: '/data.json' }),
  'a climbing name': archive({ name: '../data.json' }),
  'a climbing name inside': archive({ name: 'a/../../data.json' }),
  'a climbing prefix': archive({ name: 'data.json', prefix: '..' }),
  'an absolute prefix': archive({ name: 'data.json', prefix: '/etc' }),
  'a dot segment': archive({ name: './data.json' }),
  'an empty segment': archive({ name: 'a//data.json' }),
  'an empty name': archive({ name: '' }),
  'a backslash': archive({ name: 'a\\..\\data.json' }),
  'a size beyond the end': archive({ name: 'data.json', size: 1_000_000 }),
  'a wrong checksum': gzipSync(
    Buffer.concat([Buffer.from('x'), entry({ name: 'data.json' }), Buffer.alloc(BLOCK)]),
  ),
  'no end': gzipSync(entry({ name: 'data.json', content: '{}' })),
  'data after the end': gzipSync(Buffer.concat([Buffer.alloc(BLOCK), entry({ name: 'data.json' })])),
  'too many files': archive(
    ...Array.from({ length: ARCHIVE_LIMIT.entries + 1 }, (_, at) => ({ name: `f${at}` })),
  ),
  'a bomb': gzipSync(Buffer.alloc(ARCHIVE_LIMIT.expandedBytes + BLOCK)),
  'not gzip': Buffer.from('hello'),
  nothing: Buffer.alloc(0),
  'a cut archive': archive({ name: 'data.json', content: '{}' }).subarray(0, 40),
};

for (const [what, bytes] of Object.entries(attacks)) {
  test(`an archive with ${what} is refused`, async () => {
    await assert.rejects(readArchive(bytes), { code: 'ERR_POLICY_ARCHIVE' });
  });
}

test("a leading slash is read only in OPA's own output", async () => {
  const bytes = archive({ name: '/data.json', content: '{}' });
  assert.deepEqual([...(await readArchive(bytes, { fromOpa: true })).keys()], ['data.json']);
  await assert.rejects(readArchive(archive({ name: '//data.json' }), { fromOpa: true }), {
    code: 'ERR_POLICY_ARCHIVE',
  });
});

const files = fc.uniqueArray(
  fc.tuple(fc.stringMatching(/^[a-z][a-z0-9._-]{0,20}$/), fc.uint8Array({ maxLength: 2_000 })),
  { selector: ([name]) => name, maxLength: 8 },
);

test('what is written is read again, and its bytes depend on names and contents alone', async () => {
  await fc.assert(
    fc.asyncProperty(files, async (list) => {
      const content = new Map(list.map(([name, bytes]) => [name, Buffer.from(bytes)]));
      const written = writeArchive(content);
      const shuffled = writeArchive(new Map([...content].reverse()));
      assert.ok(written.equals(shuffled));
      const read = await readArchive(written);
      assert.deepEqual([...read.keys()], [...content.keys()].sort());
      for (const [name, bytes] of content) assert.ok(read.get(name)?.equals(bytes));
    }),
  );
});

test('large contents survive being stored in several blocks', async () => {
  const content = Buffer.alloc(65_535 * 3, 7);
  const written = writeArchive(new Map([['data.json', content]]));
  assert.ok((await readArchive(written)).get('data.json')?.equals(content));
  assert.equal(gunzipSync(written).length % BLOCK, 0);
});

test('damaged archives are refused or read whole, and nothing else happens', async () => {
  const whole = writeArchive(
    new Map([
      ['data.json', Buffer.from('{}')],
      ['.manifest', Buffer.from('{}')],
    ]),
  );
  await fc.assert(
    fc.asyncProperty(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ flip;
      await readBundle(damaged).then(
        () => assert.fail('a bundle without wasm cannot be read'),
        (error: unknown) => assert.ok(isAppError(error), String(error)),
      );
    }),
    { numRuns: 300 },
  );
});
