import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { checkProof, type Finding, loadTrust, proveEvent, readProof } from '../../audit/index.ts';
import { AppError, EXIT, messageOf, writeFileAtomically } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { counted, jsonText, outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, withReader } from './access.ts';

/** A proof is handed to others. */
const PROOF_MODE = 0o644;

const prove = async (
  event: string,
  flags: DatabaseFlags & { readonly output?: string },
  command: Command,
): Promise<void> => {
  const output = outputOf(command);
  await withReader(flags, async (reader) => {
    const proof = await proveEvent(reader, event);
    output.document(proof);
    if (flags.output === undefined) {
      output.line(jsonText(proof));
      return;
    }
    try {
      writeFileAtomically(flags.output, `${JSON.stringify(proof)}\n`, PROOF_MODE);
    } catch (cause) {
      const message = `${flags.output} cannot be written: ${messageOf(cause)}`;
      throw new AppError<CliErrorCode>('ERR_CLI_USAGE', message, { cause });
    }
    output.line(`wrote ${flags.output}; check: sallyport audit verify --proof ${flags.output} --trust FILE`);
  });
};

/** Checks a proof without any database. @throws AppError ERR_CLI_USAGE, ERR_AUDIT_PROOF_INVALID, ERR_AUDIT_TRUST_INVALID */
export const verifyProof = (
  file: string,
  trust: { readonly file: string | undefined; readonly root: string | undefined },
  command: Command,
): void => {
  const output = outputOf(command);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `${file} cannot be read: ${messageOf(cause)}`, {
      cause,
    });
  }
  const report = checkProof(
    readProof(text, file),
    trust.file === undefined ? undefined : loadTrust(trust.file, trust.root),
  );
  output.document(report);
  if (report.findings.length > 0) {
    output.table<Finding>(report.findings, [
      { title: 'finding', value: (finding) => finding.kind },
      { title: 'what', value: (finding) => finding.message },
    ]);
  }
  const place = `event ${report.seq} of chain ${report.chain_id ?? '-'}`;
  if (report.ok) {
    output.line(`verified: ${place}, sealed by ${report.signer ?? '-'} at ${report.sealed_at ?? '-'}`);
    output.line(report.event);
  } else {
    output.line(`NOT verified: ${place}, ${counted(report.findings.length, 'finding')}`);
    output.exitWith(EXIT.notSo);
  }
};

export const proveCommand = (audit: Command): void => {
  databaseOptions(
    audit
      .command('prove')
      .summary('one event with the proof that it is in the trail')
      .description(
        'Writes an event with its Merkle path and the signed seal of its batch: `audit verify --proof FILE --trust FILE` checks ' +
          'it anywhere, without a database and without the events beside it. ' +
          'Connects to: the audit database, as role audit_verify or its owner.',
      )
      .argument('<event>', 'event id (event_id in every view)'),
  )
    .option('-o, --output <file>', 'where to write, replacing what is there; default: stdout')
    .action(prove);
};
