import type { Command } from 'commander';
import { inspectBundle, type Inspection } from '../../policy/index.ts';
import { EXIT } from '../../runtime/index.ts';
import { counted, type Output, outputOf } from '../output.ts';
import { readBundleArchive } from './bundle-argument.ts';

/** The digest is that of the archive, with the signature in it. */
const NEW_DIGEST = 'signing gives another';

const signedText = ({ signatures }: Inspection): string =>
  signatures.length === 0
    ? 'no'
    : signatures
        .map(
          ({ keyId, algorithm, files }) =>
            `by key ${keyId ?? '(unnamed)'}, ${algorithm ?? 'unknown algorithm'}, over ${counted(files, 'file')} (as it says itself; not verified here)`,
        )
        .join('; ');

const print = (output: Output, inspection: Inspection): void => {
  const { sha256, bytes, sequence, revision, roots, catalog, vectors, grants, builtins, problem, files } =
    inspection;
  const rows = [
    ['sha256', sha256],
    ['', `of the archive as it is: decisions record it, and ${NEW_DIGEST}`],
    ['bytes', String(bytes)],
    ['sequence', String(sequence)],
    ['revision', revision],
    ['roots', roots.join(', ')],
    ['signed', signedText(inspection)],
    ['rules', String(catalog.length)],
    ['grants', String(grants)],
    ['vectors', String(vectors)],
    ['builtins', builtins.length === 0 ? 'none of the host' : `needs ${builtins.join(', ')}: refused`],
    ...(problem === undefined ? [] : [['problem', `it cannot be started: ${problem}`]]),
  ];
  for (const [name = '', value = ''] of rows) output.line(`${name.padEnd(10)}${value}`);
  output.line();
  output.table(catalog, [
    { title: 'rule', value: ({ id }) => id },
    { title: 'action', value: ({ action }) => action },
    { title: 'connection', value: ({ connection }) => connection },
    { title: 'owner', value: ({ owner }) => owner },
    { title: 'ticket', value: ({ ticket }) => ticket },
    { title: 'expires', value: ({ expires }) => expires },
    { title: 'where', value: ({ file, line }) => `${file}:${String(line)}` },
  ]);
  output.line();
  output.table(files, [
    { title: 'file', value: ({ name }) => name },
    { title: 'bytes', value: ({ bytes: size }) => size, align: 'right' },
  ]);
};

const inspect = async (file: string, _flags: object, command: Command): Promise<void> => {
  const output = outputOf(command);
  const inspection = await inspectBundle(readBundleArchive(file));
  output.document(inspection);
  print(output, inspection);
  if (inspection.builtins.length > 0 || inspection.problem !== undefined) output.exitWith(EXIT.notSo);
};

export const inspectCommand = (policy: Command): void => {
  policy
    .command('inspect')
    .description(
      'show what a bundle is: digest, sequence, signature, rules, files; exits 1 when no agent could start it; connects to nothing',
    )
    .argument('<bundle>', 'bundle file')
    .action(inspect);
};
