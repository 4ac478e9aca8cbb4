import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { startWorker } from '../../src/runtime/index.ts';

test('a worker runs a TypeScript file, from any current directory', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-worker-'));
  const before = process.cwd();
  try {
    writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
    const file = join(directory, 'worker.ts');
    writeFileSync(
      file,
      `import { parentPort } from 'node:worker_threads';\nconst answer: number = 42;\nparentPort?.postMessage(answer);`,
    );
    process.chdir(directory);
    const worker = startWorker(pathToFileURL(file));
    const answer = await new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    assert.equal(answer, 42);
    await worker.terminate();
  } finally {
    process.chdir(before);
    rmSync(directory, { recursive: true, force: true });
  }
});
