export type { OriginOptions } from './bundle/origin.ts';
export { MAX_CANDIDATES, normalizeAddress, normalizeCandidates } from './address.ts';
export { type CatalogEntry, readSequence, type Vector } from './bundle/bundle.ts';
export {
  developmentBundle,
  type DevelopmentConnection,
  type DevelopmentOptions,
} from './bundle/development.ts';
export { bundleKeySchema, MAX_KEY_ID } from './bundle/key-schema.ts';
export {
  SIGNATURE_ALGORITHMS,
  type SignatureAlgorithm,
  type VerificationKey,
  verificationKey,
} from './bundle/signature.ts';
export type { Candidate } from './candidate.ts';
export { type Bounds, decide, decideWithin, decisionBundle, managedDenial } from './decide.ts';
export type {
  Decision,
  DecisionBundle,
  DecisionCandidate,
  DecisionReason,
  DecidedBy,
  Obligations,
} from './decision.ts';
export type { EngineStats, Lane } from './engine/pool.ts';
export type { PolicyErrorCode } from './errors.ts';
export { type Endpoint, guardAddress, type GuardSettings, type GuardVerdict } from './guard.ts';
export type { FreshnessStatus } from './bundle/freshness.ts';
export { PolicyHost } from './host.ts';
export type {
  ActiveBundle,
  ActiveGrants,
  CloseReview,
  Decider,
  HeldBundle,
  OfferOutcome,
  PolicyAlarm,
  PolicyHostOptions,
  PolicyStatus,
  RejectedBundle,
} from './host-contract.ts';
export {
  canonicalInput,
  INPUT_VERSION,
  type PolicyInputBase,
  type PolicyKey,
  type PolicySource,
  type PolicyTime,
} from './input.ts';
export { type ManagedConfig, managedConfigSchema, parseManaged } from './managed/managed-config.ts';
export { MANAGED_LOCATION, type ManagedLocation, readManagedFile } from './managed/managed-file.ts';
export { type ManagedChange, ManagedHost, type ManagedStatus } from './managed/managed-host.ts';
export type { BundleTrust } from './bundle/bundle.ts';
export { ManagedSettings, type PolicyInUse } from './managed/managed-settings.ts';
export { Observations } from './replay/observed.ts';
export { propose, type Proposal } from './replay/propose.ts';
export {
  decideAgain,
  type DecidingPolicy,
  type Difference,
  type RecordedFacts,
} from './replay/decide-again.ts';
export { readGrants } from './bundle/grants.ts';
export { readGrantsFile } from './bundle/grants-file.ts';
export { replayBundle } from './replay/bundle.ts';
export { type ReplayGroup, ReplayGroups } from './replay/groups.ts';
export type { ChangedDecision, PastDecision, ReplayAnswer, ReplayChange } from './replay/recorded.ts';
export type { ReplayCounts } from './replay/replay.ts';
export { type RuleUse, RuleUseCount, type RuleUseReport } from './replay/rule-use.ts';
export { buildBundle, type BuildOptions, type BuiltBundle } from './tool/build.ts';
export { checkPolicies, findRegal, isRefusal } from './tool/check.ts';
export { type Diagnostic, diagnosticText } from './tool/diagnostic.ts';
export { findOpa, OPA_VERSION } from './tool/opa.ts';
export { renumberBundle } from './tool/renumber.ts';
export { type BundleSigner, commandSigner, keySigner, signBundle } from './tool/sign.ts';
export { DEFAULT_BUNDLE_FILE, SHIPPED_POLICIES } from './tool/paths.ts';
export {
  policyExamples,
  writePolicyExample,
  writePolicySkeleton,
  writeProposals,
} from './tool/skeleton.ts';
export type { SkeletonConnection } from './tool/skeleton-files.ts';
export { type PolicyTestReport, type ShownAnswer, testPolicies, type VectorReport } from './tool/test.ts';
export { inspectBundle, type Inspection } from './tool/inspect.ts';
export { type AskedInput, readAskedInput } from './tool/asked-input.ts';
export { explainInput, type ExplainedAddress, type Explanation } from './tool/explain.ts';
export { type AnswerChange, type BundleDiff, diffBundles, type EntryChanges } from './tool/diff.ts';
export type { BundleGrant } from './tool/bundle-grants.ts';
export { DOCS_INDEX, DOCS_MARK, documentBundle } from './tool/docs.ts';
