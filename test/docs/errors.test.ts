import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const ROOT = join(import.meta.dirname, '..', '..');
/** Codes of Node's own errors, which our code may compare with. */
const FOREIGN =
  /^ERR_(HTTP2?|STREAM|SSL|TLS|SOCKET|MODULE|INVALID|USE|IPC|UNHANDLED|OSSL|CRYPTO|BUFFER|FS|WORKER)_/;

const sources = (): string[] =>
  readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => readFileSync(join(ROOT, 'src', file), 'utf8'));

const codesInSource = (): Set<string> => {
  const codes = sources().flatMap((text) =>
    [...text.matchAll(/'(ERR_[A-Z0-9_]+)'/g)].map((match) => match[1]!),
  );
  return new Set(codes.filter((code) => !FOREIGN.test(code)));
};

const page = readFileSync(join(ROOT, 'docs', 'errors.md'), 'utf8');
const headings = [...page.matchAll(/^### (.+)$/gm)].map((match) => match[1]!);

test('every error code of the sources has its heading in docs/errors.md, and no heading is left over', () => {
  const codes = codesInSource();
  const documented = new Set(headings);
  assert.deepEqual(
    {
      missing: [...codes].filter((code) => !documented.has(code)).sort(),
      leftOver: headings.filter((code) => !codes.has(code)),
    },
    { missing: [], leftOver: [] },
  );
  assert.ok(codes.size >= 10, 'the pattern finds the codes at all');
});

test('no code is explained twice, and each has a text', () => {
  assert.equal(new Set(headings).size, headings.length);
  for (const part of page.split(/^### /m).slice(1)) {
    const text = part
      .split('\n')
      .slice(1)
      .join('\n')
      .replace(/^## .*$/gm, '')
      .trim();
    assert.ok(text.length > 20, `${part.split('\n')[0] ?? ''} has no text`);
  }
});
