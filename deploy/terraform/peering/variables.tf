variable "source_vpc_id" {
  type = string
}

variable "source_vpc_cidr" {
  type = string
}

variable "source_route_table_id" {
  type = string
}

variable "source_interface_id" {
  type = string
}

variable "target_vpc_id" {
  type = string
}

variable "target_vpc_cidr" {
  type = string
}

variable "target_route_table_id" {
  type = string
}

variable "target_subnet_id" {
  type = string
}

variable "share_with_account" {
  type        = string
  default     = null
  description = "An account that may send to the target, too"
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

variable "package_bucket" {
  type        = string
  description = "The S3 bucket to which the package was uploaded"
}

variable "package_key" {
  type    = string
  default = "mirror.rpm"
}

variable "package_sha256" {
  type = string
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.package_sha256))
    error_message = "64 hexadecimal digits, as sha256sum prints them."
  }
}
