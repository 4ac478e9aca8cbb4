import { resolve } from 'node:path';
import type { Command } from 'commander';
import { buildBundle, checkPolicies, diagnosticText, findOpa, findRegal } from '../../policy/index.ts';
import { AppError, EXIT } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { outputOf } from '../output.ts';
import { diffCommand } from './diff.ts';
import { docsCommand } from './docs.ts';
import { explainCommand } from './explain.ts';
import { inspectCommand } from './inspect.ts';
import { newCommand } from './new.ts';
import { proposeCommand } from './propose.ts';
import { replayCommand } from './replay.ts';
import { testCommand } from './test.ts';
import { unusedCommand } from './unused.ts';

interface BuildFlags {
  readonly output: string;
  readonly sequence?: string;
  readonly revision?: string;
}

const sequenceOf = (text: string): number => {
  if (/^[1-9]\d{0,15}$/.test(text) && Number.isSafeInteger(Number(text))) return Number(text);
  throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `--sequence '${text}' is not a positive integer`);
};

const build = async (directory: string, flags: BuildFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const file = resolve(flags.output);
  const options = {
    opa: await findOpa(),
    ...(flags.sequence === undefined ? {} : { sequence: sequenceOf(flags.sequence) }),
    ...(flags.revision === undefined ? {} : { revision: flags.revision }),
  };
  const { bytes, sequence, revision, rules, vectors } = await buildBundle(directory, file, options);
  output.document({ file, bytes: bytes.length, sequence, revision, rules, vectors });
  const counts = `${String(rules)} rules, ${String(vectors)} vectors`;
  output.line(`${file}: sequence ${String(sequence)}, revision '${revision}', ${counts}`);
};

const check = async (directory: string, _flags: object, command: Command): Promise<void> => {
  const output = outputOf(command);
  const found = await checkPolicies(directory, await findOpa());
  const hasRegal = findRegal() !== undefined;
  const ok = found.every(({ severity }) => severity === 'warning');
  output.document({ ok, findings: found, regal: hasRegal });
  for (const diagnostic of found) output.line(diagnosticText(diagnostic));
  if (!hasRegal) {
    output.note(
      'regal was not found, so its rules of style were not checked; put it on PATH, set SALLYPORT_REGAL, or, with go installed, run `node tools/build-policy-tools.mjs --regal`',
    );
  }
  if (found.length === 0) output.note(`${directory}: no findings`);
  if (!ok) output.exitWith(EXIT.notSo);
};

/** `sallyport policy …` */
export const policyCommand = (program: Command): void => {
  const policy = program.command('policy').description('write, check, test and build policy bundles');
  newCommand(policy);
  policy
    .command('build')
    .description('compile a policy directory into a bundle; connects to nothing, needs opa')
    .argument('<dir>', 'policy directory')
    .requiredOption('-o, --output <file>', 'bundle to write')
    .option('--sequence <number>', 'integer that rises with every roll-out; default: .manifest')
    .option('--revision <text>', 'name of this bundle for people; default: .manifest')
    .action(build);
  policy
    .command('check')
    .description('check a policy directory: opa, formatting, our lints; connects to nothing, needs opa')
    .argument('<dir>', 'policy directory')
    .action(check);
  testCommand(policy);
  inspectCommand(policy);
  explainCommand(policy);
  diffCommand(policy);
  replayCommand(policy);
  unusedCommand(policy);
  proposeCommand(policy);
  docsCommand(policy);
};
