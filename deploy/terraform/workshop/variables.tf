variable "instance_count" {
  type        = number
  default     = 1
  description = "Web servers"
}

variable "instance_type" {
  type        = string
  default     = "t3.small"
  description = "Of the web servers; T2 cannot be mirrored"
}

variable "key_name" {
  type        = string
  default     = null
  description = "A key pair for SSH"
}

variable "mirror_instance_type" {
  type        = string
  default     = "m5.large"
  description = "Of the mirror target"
}

variable "ssh_location" {
  type        = string
  description = "From where SSH is allowed: your own address, such as 192.0.2.1/32"
}

variable "vpc_name" {
  type    = string
  default = "mirror-workshop"
}

variable "source_interface_id" {
  type        = string
  default     = null
  description = "In the second step: the interface of a web server"
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
