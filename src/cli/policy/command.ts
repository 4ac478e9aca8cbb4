import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import {
  buildBundle,
  checkPolicies,
  diagnosticText,
  findOpa,
  findRegal,
  isRefusal,
  type PolicyErrorCode,
  readSequence,
  renumberBundle,
} from '../../policy/index.ts';
import { AppError, EXIT, writeFileAtomically } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { counted, type Output, outputOf } from '../output.ts';
import { readBundleArchive } from './bundle-argument.ts';
import { diffCommand } from './diff.ts';
import { docsCommand } from './docs.ts';
import { explainCommand } from './explain.ts';
import { inspectCommand } from './inspect.ts';
import { newCommand } from './new.ts';
import { signingStep } from './next-steps.ts';
import { proposeCommand } from './propose.ts';
import { replayCommand } from './replay.ts';
import { rolloutCommands } from './rollout.ts';
import { shadowCommand } from './shadow.ts';
import { signCommand } from './sign.ts';
import { testCommand } from './test.ts';
import { unusedCommand } from './unused.ts';

interface BuildFlags {
  readonly output: string;
  readonly sequence?: string;
  readonly after?: string;
  readonly revision?: string;
}

/** Bundles hold no secret: whoever runs the agent may read them. */
const BUNDLE_MODE = 0o644;

const sequenceOf = (text: string): number => {
  if (/^[1-9]\d{0,15}$/.test(text) && Number.isSafeInteger(Number(text))) return Number(text);
  throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `--sequence '${text}' is not a positive integer`);
};

/** One more than that of the bundle which is about to be replaced. */
const sequenceAfter = async (file: string): Promise<number> =>
  (await readSequence(readBundleArchive(file))) + 1;

const wantedSequence = async ({ sequence, after }: BuildFlags): Promise<number | undefined> => {
  if (sequence !== undefined && after !== undefined) {
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', '--sequence and --after exclude each other');
  }
  if (after !== undefined) return sequenceAfter(after);
  return sequence === undefined ? undefined : sequenceOf(sequence);
};

/** Notes warnings. @throws AppError ERR_POLICY_SOURCE, a line for each finding of `policy check` that is none */
const requireChecked = async (directory: string, opa: string, output: Output): Promise<void> => {
  const found = await checkPolicies(directory, opa);
  for (const finding of found) if (!isRefusal(finding)) output.note(diagnosticText(finding));
  const refused = found.filter(isRefusal).map(diagnosticText);
  if (refused.length === 0) return;
  const what = `${directory} is not built: 'policy check' refuses it`;
  throw new AppError<PolicyErrorCode>('ERR_POLICY_SOURCE', [what, ...refused].join('\n'));
};

const build = async (directory: string, flags: BuildFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const file = resolve(flags.output);
  const wanted = await wantedSequence(flags);
  const options = {
    opa: await findOpa(),
    ...(wanted === undefined ? {} : { sequence: wanted }),
    ...(flags.revision === undefined ? {} : { revision: flags.revision }),
  };
  await requireChecked(directory, options.opa, output);
  const { bytes, sequence, revision, rules, vectors } = await buildBundle(directory, file, options);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  output.document({ file, bytes: bytes.length, sha256, sequence, revision, rules, vectors });
  const counts = `${counted(rules, 'rule')}, ${counted(vectors, 'vector')}`;
  output.line(`${file}: sequence ${String(sequence)}, revision '${revision}', ${counts}`);
  output.line(`sha256 ${sha256}, not signed; signing gives it another`);
  output.line(signingStep(flags.output));
};

interface RollbackFlags {
  readonly after: string;
  readonly output: string;
}

const rollback = async (old: string, flags: RollbackFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const file = resolve(flags.output);
  const sequence = await sequenceAfter(flags.after);
  const { bytes, revision } = await renumberBundle(readBundleArchive(old), sequence);
  writeFileAtomically(file, bytes, BUNDLE_MODE);
  output.document({ file, bytes: bytes.length, sequence, revision });
  output.line(`${file}: sequence ${String(sequence)}, revision '${revision}', not signed`);
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
    .option('--after <bundle>', 'a sequence one higher than that of this bundle')
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
  policy
    .command('rollback')
    .summary('an old bundle under a new sequence')
    .description(
      'Writes the content of an old bundle under a sequence that agents take, unsigned: sign and roll it out like a ' +
        'new one. Connects to nothing, needs no opa.',
    )
    .argument('<bundle>', 'the old bundle')
    .requiredOption('--after <bundle>', 'the bundle that is active now')
    .requiredOption('-o, --output <file>', 'bundle to write')
    .action(rollback);
  signCommand(policy);
  shadowCommand(policy);
  rolloutCommands(policy);
};
