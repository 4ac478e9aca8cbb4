import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { projectRoot, runCommand } from '../support/command.ts';
import { temporaryDirectory } from '../support/temporary.ts';

/** Text of a program that starts a thread and a process which answer. */
const starter = (t: TestContext, extension: 'ts' | 'js', runtime: string): string => {
  const directory = temporaryDirectory(t, 'worker');
  const annotation = extension === 'ts' ? ': number' : '';
  const write = (name: string, text: string): void => writeFileSync(join(directory, name), text);
  write('package.json', '{"type":"module"}');
  write(
    `thread.${extension}`,
    `import { parentPort } from 'node:worker_threads';\nconst answer${annotation} = 42;\nparentPort?.postMessage(answer);`,
  );
  write(
    `process.${extension}`,
    `const answer${annotation} = 43;\nprocess.send(answer, () => process.disconnect());`,
  );
  return `
    import { once } from 'node:events';
    import { startProcess, startWorker } from ${JSON.stringify(pathToFileURL(join(projectRoot, runtime)).href)};
    const base = ${JSON.stringify(pathToFileURL(`${directory}/`).href)};
    const worker = startWorker(new URL('thread.ts', base));
    const child = startProcess(new URL('process.ts', base));
    const [[fromThread], [fromProcess]] = await Promise.all([once(worker, 'message'), once(child, 'message')]);
    console.log(fromThread, fromProcess);`;
};

const run = async (t: TestContext, text: string, flags: readonly string[]): Promise<string> => {
  const cwd = temporaryDirectory(t, 'elsewhere');
  const main = join(temporaryDirectory(t, 'main'), 'main.mjs');
  writeFileSync(main, text);
  const { stdout, stderr } = await runCommand(process.execPath, [...flags, main], { cwd });
  return `${stdout}${stderr}`;
};

test('built, a thread and a process run what their TypeScript file is built to, from any current directory', async (t) => {
  assert.equal(await run(t, starter(t, 'js', 'dist/runtime/index.js'), []), '42 43\n');
});

test('unbuilt, a thread and a process run their TypeScript file, from any current directory', async (t) => {
  const flags = ['--import', import.meta.resolve('tsx')];
  assert.equal(await run(t, starter(t, 'ts', 'src/runtime/index.ts'), flags), '42 43\n');
});
