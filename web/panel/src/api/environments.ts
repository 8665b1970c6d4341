// What the pages about environments know of the API.
import type { components } from './schema'

type Schemas = components['schemas']
export type Environment = Schemas['Environment']
export type EnvironmentSummary = Schemas['EnvironmentSummary']
export type EnvironmentVersion = Schemas['EnvironmentVersion']
export type EnvironmentCheck = Schemas['EnvironmentCheck']
export type EnvironmentFinding = Schemas['EnvironmentFinding']
export type Build = Schemas['Build']
export type Snapshot = Schemas['Snapshot']
export type Secret = Schemas['Secret']
export type SecretUse = Schemas['SecretUse']
export type SecretKey = Schemas['SecretKey']
export type Setup = Schemas['Setup']
export type Boot = Schemas['Boot']
