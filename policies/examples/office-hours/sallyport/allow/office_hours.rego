package sallyport.allow

import data.sallyport.request

# METADATA
# title: The payroll server
# custom: {id: payroll-publish, owner: hr-it@example.com, ticket: SEC-60, expires: never}
publish.payroll contains rego.metadata.rule() if {
	request.target_is("payroll.corp.example", 8443)
	net.cidr_contains("10.30.0.0/24", input.target.address)
}

# METADATA
# title: Clerks on working days, seven to seven
# custom:
#   id: payroll-office-hours
#   owner: hr@example.com
#   ticket: SEC-61
#   expires: never
#   limits: {recheck_seconds: 30}
stream.payroll contains rego.metadata.rule() if {
	input.key.principal == "payroll-clerks"
	request.working_hours(7, 19)
}

# METADATA
# title: Emergencies, at any hour
# custom:
#   id: payroll-break-glass
#   owner: ciso@example.com
#   ticket: SEC-62
#   expires: 2027-06-30
#   limits: {max_seconds: 900, max_streams_per_principal: 1}
stream.payroll contains rego.metadata.rule() if input.key.principal == "break-glass"
