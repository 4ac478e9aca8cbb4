import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { createProgram } from '../../../src/cli/main.ts';
import { flatten, shapeOf } from '../../../src/cli/shell/shape.ts';
import { findProgram, missingPrograms, runCommand, sallyport } from '../../support/command.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

type Shell = 'bash' | 'zsh' | 'fish';
const scripts = new Map<Shell, string>();

/** What a shell offers for the last of the words that were typed, sorted. */
type Ask = (words: readonly string[], script: string, cwd: string) => Promise<string[]>;

const linesOf = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .sort();

const run = async (shell: Shell, code: string, args: readonly string[], cwd: string): Promise<string[]> => {
  const result = await runCommand(findProgram(shell) ?? shell, ['-c', code, ...args], {
    cwd,
    env: { HOME: cwd, XDG_CONFIG_HOME: cwd, XDG_DATA_HOME: cwd },
  });
  assert.equal(result.stderr, '', `${shell}: ${args.join(' ')}`);
  return linesOf(result.stdout);
};

const ASK: Readonly<Record<Shell, Ask>> = {
  bash: (words, script, cwd) =>
    run(
      'bash',
      'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sallyport; printf "%s\\n" "${COMPREPLY[@]}"',
      [script, ...words],
      cwd,
    ),
  // What a terminal would need is stood in for: the functions that put matches on the screen print them.
  zsh: async (words, script, cwd) => {
    const code = `
      compdef() { : }
      compadd() { shift; print -l -- \${(M)@:#\${PREFIX}*} }
      _files() { print -l -- \${PREFIX}*(N) }
      _describe() { local one; for one in $found; do one=\${one%%:*}; [[ $one == \${PREFIX}* ]] && print -- $one; done; true }
      script=$1; shift
      source $script
      words=("$@"); CURRENT=$#; PREFIX=$words[CURRENT]
      _sallyport; true`;
    return run('zsh', code, ['zsh', script, ...words], cwd);
  },
  fish: async (words, script, cwd) => {
    const offered = await run(
      'fish',
      'source $argv[1]; complete -C "$argv[2]"',
      [script, words.join(' ')],
      cwd,
    );
    return offered.map((line) => line.split('\t')[0] ?? '').sort();
  },
};

before(async () => {
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    const { code, stdout, stderr } = await sallyport(['completion', shell]);
    assert.equal(code, 0, stderr);
    scripts.set(shell, stdout);
  }
});

const EXPECTED: readonly { readonly typed: readonly string[]; readonly offered: readonly string[] }[] = [
  { typed: ['aud'], offered: ['audit'] },
  // A command that begins as another does is not taken for it.
  { typed: ['agents', 'l'], offered: ['list'] },
  { typed: ['agent', 'i'], offered: ['install'] },
  { typed: ['agent', 'install', '--pr'], offered: ['--print'] },
  // The value of an option is no command, and what is above a command is taken below it.
  { typed: ['agent', '-c', 'install', 'rev'], offered: ['revocations'] },
  { typed: ['agent', 'revocations', 'list', '--js'], offered: ['--json'] },
  { typed: ['completion', ''], offered: ['bash', 'fish', 'zsh'] },
  { typed: ['policy', 'replay', '--fail-on', 'newly'], offered: ['newly-allowed', 'newly-denied'] },
  { typed: ['agent', '-c', 'agent.y'], offered: ['agent.yaml'] },
  { typed: ['audit', 'import', 'agent.y'], offered: ['agent.yaml'] },
  { typed: ['agent', 'nothing-begins-so'], offered: [] },
];

for (const shell of ['bash', 'zsh', 'fish'] as const) {
  test(`${shell} completes commands, options, choices and files`, async (t) => {
    const missing = missingPrograms({ [shell]: shell });
    if (missing !== false) {
      t.skip(missing);
      return;
    }
    const cwd = temporaryDirectory(t, shell);
    const script = join(cwd, 'script');
    writeFileSync(script, scripts.get(shell) ?? '');
    writeFileSync(join(cwd, 'agent.yaml'), '');
    for (const { typed, offered } of EXPECTED) {
      const found = await ASK[shell](['sallyport', ...typed], script, cwd);
      assert.deepEqual(found, [...offered].sort(), typed.join(' '));
    }
  });
}

test('every command and every option of the program is in every script', async () => {
  const shapes = flatten(shapeOf(await createProgram([])));
  assert.ok(shapes.length > 50, 'the walk finds the commands');
  for (const [shell, script] of scripts) {
    for (const { path, options } of shapes) {
      assert.ok(script.includes(`' ${path.join(' ')}'`) || path.length === 0, `${shell}: ${path.join(' ')}`);
      for (const { words } of options)
        for (const word of words) assert.ok(script.includes(word), `${shell}: ${path.join(' ')} ${word}`);
    }
  }
});

test('man shows the page without a warning, with every command and its options', async (t) => {
  const missing = missingPrograms({ man: 'man-db', groff: 'groff-base' });
  if (missing !== false) {
    t.skip(missing);
    return;
  }
  const { code, stdout, stderr } = await sallyport(['manual'], { env: { SOURCE_DATE_EPOCH: '1767312000' } });
  assert.equal(code, 0, stderr);
  const file = join(temporaryDirectory(t, 'man'), 'sallyport.1');
  writeFileSync(file, stdout);
  const env = { LC_ALL: 'C.UTF-8', MANROFFSEQ: '', MANWIDTH: '240', MAN_KEEP_FORMATTING: '' };
  const shown = await runCommand('man', ['--warnings', '-E', 'UTF-8', '-l', '-Tutf8', file], { env });
  assert.deepEqual([shown.code, shown.stderr], [0, '']);
  const text = shown.stdout
    .replaceAll(/.\x08/g, '')
    .replaceAll('\u001b', '')
    .replaceAll(/\[\d+m/g, '');
  assert.match(text, /2026-01-02/);
  for (const { path, options } of flatten(shapeOf(await createProgram([])))) {
    assert.ok(text.includes(['sallyport', ...path].join(' ')), path.join(' '));
    for (const { flags } of options) assert.ok(text.includes(flags), `${path.join(' ')} ${flags}`);
  }
});

test('a shell that there is no script for is refused, with those that there are', async () => {
  const { code, stderr } = await sallyport(['completion', 'tcsh']);
  assert.equal(code, 2);
  assert.match(stderr, /bash, zsh, fish/);
});
