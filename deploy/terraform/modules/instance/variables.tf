variable "name" {
  type    = string
  default = "mirror"
}

variable "vpc_id" {
  type = string
}

variable "subnet_id" {
  type        = string
  description = "A subnet with a route to S3 and Systems Manager"
}

variable "source_cidr" {
  type        = string
  description = "Where mirrored interfaces have their addresses"
}

variable "instance_type" {
  type = string
}

variable "key_name" {
  type    = string
  default = null
}

variable "ssh_cidr" {
  type        = string
  default     = null
  description = "From where SSH is allowed, if at all"
}

variable "public" {
  type    = bool
  default = false
}

variable "package_bucket" {
  type = string
}

variable "package_key" {
  type = string
}

variable "package_sha256" {
  type = string
}
