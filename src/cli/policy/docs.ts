import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { DOCS_INDEX, DOCS_MARK, documentBundle } from '../../policy/index.ts';
import { AppError } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { outputOf } from '../output.ts';
import { readBundleArgument } from './bundle-argument.ts';

interface DocsFlags {
  readonly output: string;
}

const FOLDERS = ['rules', 'reasons'];

/** Takes away the pages of the last time, so that no rule is documented that is gone; touches nothing else's. */
const clear = (directory: string): void => {
  if (!existsSync(directory) || readdirSync(directory).length === 0) return;
  const index = join(directory, DOCS_INDEX);
  if (!existsSync(index) || !readFileSync(index, 'utf8').startsWith(DOCS_MARK)) {
    throw new AppError<CliErrorCode>(
      'ERR_CLI_FILE_EXISTS',
      `${directory} holds other files than pages of policy docs; give another directory with -o`,
    );
  }
  for (const folder of FOLDERS) {
    const path = join(directory, folder);
    if (!existsSync(path)) continue;
    for (const name of readdirSync(path)) if (name.endsWith('.md')) rmSync(join(path, name));
  }
  rmSync(join(directory, 'grants.md'), { force: true });
};

const docs = async (source: string, flags: DocsFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const directory = resolve(flags.output);
  const pages = await documentBundle(await readBundleArgument(source));
  clear(directory);
  for (const [name, text] of pages) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
  output.document({ directory, pages: [...pages.keys()] });
  output.line(`${directory}: ${String(pages.size)} pages, from ${DOCS_INDEX}`);
};

export const docsCommand = (policy: Command): void => {
  policy
    .command('docs')
    .description(
      'write markdown: a page per rule and per reason code; connects to nothing; a directory needs opa',
    )
    .argument('<source>', 'bundle file or policy directory')
    .option('-o, --output <dir>', 'where the pages go; pages of the last time are replaced', 'policy-docs')
    .action(docs);
};
